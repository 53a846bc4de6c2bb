"""Whatever the length of a run, its schedule is the same in shares of it."""

import copy
from itertools import islice

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmdet_shufflenetv2.engine import run_config, schedule
from mmdet_shufflenetv2.engine.schedule import (
    EndlessSampler,
    OfRun,
    stretch_schedule,
)

CONFIGS = [
    'configs/lighthead_shufflenetv2.py',
    'configs/lighthead_shufflenetv2_custom.py',
    'configs/pretrain.py',
    'configs/swap/retinanet_shufflenetv2_fpn_coco.py',
    'configs/swap/rtmdet-tiny_shufflenetv2_coco.py',
    'configs/swap/yolox-tiny_shufflenetv2_coco.py',
]


class Line(nn.Linear):
    def train_step(self, data, optim_wrapper):
        return dict(loss=torch.zeros(()))


def rates(cfg: Config, epochs: int, tmp_path, epoch_length=100) -> list[float]:
    """The learning rate of every iteration, as mmengine's runner sets it."""
    by_epoch = 'max_epochs' in cfg.train_cfg
    runner = Runner(
        Line(1, 1),
        str(tmp_path),
        train_dataloader=dict(
            dataset=[torch.zeros(1)] * epoch_length,
            sampler=dict(type='DefaultSampler'),
            batch_size=1,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs)
        if by_epoch
        else dict(by_epoch=False, max_iters=epochs * epoch_length),
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


@pytest.mark.parametrize('path', CONFIGS)
def test_max_epochs_alone_drives_a_configs_schedule(root, path, tmp_path):
    """Without our tools too: the config says so itself."""
    cfg = Config.fromfile(root / path)
    longer, shorter = (rates(cfg, epochs, tmp_path) for epochs in (60, 30))
    base = max(longer)
    assert longer[-1] < 0.2 * base
    assert shorter[-1] < 0.2 * base
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


def test_hooks_at_the_end_of_a_run_stay_there():
    cfg = run_config.load_config(
        'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
        {'train_cfg.max_epochs': 100},
    )
    (hook,) = (h for h in cfg.custom_hooks if h.type == 'PipelineSwitchHook')
    assert hook.switch_epoch == 80
    assert cfg.train_cfg.dynamic_intervals == [(80, 1)]


def test_warm_up_that_a_run_is_too_short_for_is_left_out():
    cfg = run_config.load_config('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py')
    cfg.train_cfg.max_epochs = 1
    stretch_schedule(cfg, 300)
    assert [s.type for s in cfg.param_scheduler] == ['CosineAnnealingLR']


def test_shares_of_a_run_become_iterations():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = OfRun.build_iter_from_epoch(
        optimizer,
        dict(type='MultiStepLR', milestones=[0.5, 0.75]),
        end=10,
        epoch_length=4,
        share=(0.25, 1.0),
    )
    assert (scheduler.begin, scheduler.end) == (10, 40)
    assert sorted(scheduler.milestones) == [10, 20]


def first(sampler, count: int) -> list[int]:
    return list(islice(sampler, count))


@pytest.fixture
def ranks(monkeypatch):
    """Samplers of several processes over the same 10 images."""

    def make(world_size: int) -> list[EndlessSampler]:
        samplers = []
        for rank in range(world_size):
            monkeypatch.setattr(
                schedule, 'get_dist_info', lambda r=rank: (r, world_size)
            )
            samplers.append(EndlessSampler(range(10), seed=3))
        return samplers

    return make


@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_processes_share_passes_and_start_anywhere(ranks, world_size):
    alone = first(ranks(1)[0], 60)
    passes = [alone[at : at + 10] for at in range(0, 60, 10)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert len(set(map(tuple, passes))) == 6
    shares = [first(s, 60 // world_size) for s in ranks(world_size)]
    dealt = [index for turn in zip(*shares, strict=True) for index in turn]
    assert dealt == alone
    for sampler, share in zip(ranks(world_size), shares, strict=True):
        sampler.skip(7)
        assert first(sampler, len(share) - 7) == share[7:]


class Numbers(list):
    """Image i is the number i; says which were read."""

    def __init__(self):
        super().__init__(range(10))
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        return torch.tensor([float(index)])


class Model(torch.nn.Linear):
    """Learns nothing, keeps what it was fed."""

    def __init__(self):
        super().__init__(1, 1)
        self.seen = []

    def train_step(self, data, optim_wrapper):
        self.seen.append(data.flatten().tolist())
        return dict(loss=torch.zeros(()))


def run_from(iteration: int, tmp_path) -> tuple[list, list]:
    """Batches fed and images read from an iteration to the seventh."""
    dataset = Numbers()
    loader = DataLoader(
        dataset, batch_size=2, sampler=EndlessSampler(dataset, seed=5)
    )
    runner = Runner(
        Model(),
        str(tmp_path),
        train_dataloader=loader,
        train_cfg=dict(type='ResumableIterLoop', max_iters=7),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(logger=None, checkpoint=None, timer=None),
        experiment_name=f'from_{iteration}_{tmp_path.name}',
    )
    loop = runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    loop._iter = iteration
    loop.run()
    return runner.model.seen, dataset.read


def test_resumed_run_reads_only_what_it_had_not(tmp_path):
    whole, _ = run_from(0, tmp_path)
    rest, read = run_from(4, tmp_path)
    assert rest == whole[4:]
    assert read == [int(i) for batch in rest for i in batch]
