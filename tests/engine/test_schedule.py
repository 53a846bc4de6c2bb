"""A run's schedule is the same in shares of it; its data go on anywhere."""

import copy
from itertools import islice

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmdet_shufflenetv2.engine import run_config, schedule
from mmdet_shufflenetv2.engine.schedule import (
    EndlessSampler,
    stretch_schedule,
)


class Line(torch.nn.Linear):
    """Learns nothing, keeps what it was fed."""

    def __init__(self):
        super().__init__(1, 1)
        self.seen = []

    def train_step(self, data, optim_wrapper):
        self.seen.append(data.flatten().tolist())
        return dict(loss=torch.zeros(()))


def rates(cfg: Config, epochs: int, tmp_path, epoch_length=100) -> list[float]:
    """The learning rate of every iteration, as mmengine's runner sets it."""
    train_cfg = dict(by_epoch=True, max_epochs=epochs)
    if 'max_epochs' not in cfg.train_cfg:
        train_cfg = dict(by_epoch=False, max_iters=epochs * epoch_length)
    runner = Runner(
        Line(),
        str(tmp_path),
        train_dataloader=dict(
            dataset=[torch.zeros(1)] * epoch_length,
            sampler=dict(type='DefaultSampler'),
            batch_size=1,
        ),
        train_cfg=train_cfg,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=cfg.optim_wrapper.optimizer.lr)
        ),
        param_scheduler=copy.deepcopy(cfg.param_scheduler),
        experiment_name=f'{tmp_path.name}_{epochs}_{id(cfg)}',
        default_scope='mmdet',
    )
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    schedulers = runner.build_param_scheduler(runner.param_schedulers)
    found = []
    for step in range(1, epochs * epoch_length + 1):
        found += runner.optim_wrapper.get_lr()['lr']
        runner.optim_wrapper.optimizer.step()
        for each in schedulers:
            if not each.by_epoch or step % epoch_length == 0:
                each.step()
    return found


@pytest.mark.parametrize(
    'name',
    [
        'lighthead_shufflenetv2',
        'lighthead_shufflenetv2_custom',
        'pretrain',
        'swap/retinanet_shufflenetv2_fpn_coco',
        'swap/rtmdet-tiny_shufflenetv2_coco',
        'swap/yolox-tiny_shufflenetv2_coco',
    ],
)
def test_max_epochs_alone_drives_a_configs_schedule(root, name, tmp_path):
    """Without our tools too: the config says so itself."""
    cfg = Config.fromfile(root / 'configs' / f'{name}.py')
    longer, shorter = (rates(cfg, epochs, tmp_path) for epochs in (60, 30))
    base = max(longer)
    assert max(longer[-1], shorter[-1]) < 0.2 * base
    for share in 0.55, 0.65, 0.75, 0.85, 0.99:
        one, other = (
            found[int(share * len(found))] for found in (longer, shorter)
        )
        assert one == pytest.approx(other, rel=0.25, abs=5e-3 * base), share


def test_schedules_in_epochs_are_stretched(tmp_path):
    path = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
    cfg = run_config.load_config(path, {'train_cfg.max_epochs': 24})
    found = rates(cfg, 24, tmp_path, epoch_length=600)
    base = cfg.optim_wrapper.optimizer.lr
    for share, factor in (0.5, 1), (0.8, 0.1), (0.97, 0.01):
        rate = found[int(share * len(found))]
        assert rate == pytest.approx(base * factor), share


def test_what_is_at_an_end_of_a_run_stays_there_or_is_left_out():
    cfg = run_config.load_config(
        'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
        {'train_cfg.max_epochs': 100},
    )
    (hook,) = (h for h in cfg.custom_hooks if h.type == 'PipelineSwitchHook')
    assert hook.switch_epoch == 80
    assert cfg.train_cfg.dynamic_intervals == [(80, 1)]
    # A warm-up that a run is too short for.
    cfg = run_config.load_config('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py')
    cfg.train_cfg.max_epochs = 1
    stretch_schedule(cfg, 300)
    assert [s.type for s in cfg.param_scheduler] == ['CosineAnnealingLR']


@pytest.mark.parametrize('world_size', [2, 3])
def test_processes_share_passes_and_start_anywhere(monkeypatch, world_size):
    def sampler(rank, size):
        monkeypatch.setattr(schedule, 'get_dist_info', lambda: (rank, size))
        return EndlessSampler(range(10), seed=3)

    alone = list(islice(sampler(0, 1), 60))
    passes = [alone[at : at + 10] for at in range(0, 60, 10)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert len(set(map(tuple, passes))) == 6
    for rank in range(world_size):
        share = alone[rank::world_size]
        later = sampler(rank, world_size)
        assert list(islice(later, len(share))) == share
        later.skip(7)
        assert list(islice(later, len(share) - 7)) == share[7:]


class Numbers(list):
    """Image i is the number i; says which were read."""

    def __init__(self):
        super().__init__(range(10))
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        return torch.tensor([float(index)])


def run_from(iteration: int, tmp_path) -> tuple[list, list]:
    """Batches fed and images read from an iteration to the seventh."""
    data = Numbers()
    sampler = EndlessSampler(data, seed=5)
    runner = Runner(
        Line(),
        str(tmp_path),
        train_dataloader=DataLoader(data, batch_size=2, sampler=sampler),
        train_cfg=dict(type='ResumableIterLoop', max_iters=7),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(logger=None, checkpoint=None, timer=None),
        experiment_name=f'from_{iteration}_{tmp_path.name}',
    )
    loop = runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    loop._iter = iteration
    loop.run()
    return runner.model.seen, data.read


def test_resumed_run_reads_only_what_it_had_not(tmp_path):
    whole, _ = run_from(0, tmp_path)
    rest, read = run_from(4, tmp_path)
    assert rest == whole[4:]
    assert read == [int(i) for batch in rest for i in batch]
