"""A run's schedule is the same in shares of it; its data go on anywhere."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmdet_shufflenetv2.engine import run_config

RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
RTMDET = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
YOLOX = 'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py'


def rates(cfg, epochs, line_run, length=50):
    """The learning rate of every iteration, as mmengine's runner sets it."""
    train_cfg = dict(by_epoch=True, max_epochs=epochs)
    if 'max_epochs' not in cfg.train_cfg:
        train_cfg = dict(by_epoch=False, max_iters=epochs * length)
    loader = DataLoader([torch.zeros(1)] * length)
    optimizer = torch.optim.SGD(
        [torch.ones(1)], cfg.optim_wrapper.optimizer.lr
    )
    runner = line_run(
        runner=Runner,
        train_dataloader=loader,
        train_cfg=train_cfg,
        optim_wrapper=OptimWrapper(optimizer),
        param_scheduler=copy.deepcopy(cfg.param_scheduler),
        default_scope='mmdet',
    )
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    schedulers = runner.build_param_scheduler(runner.param_schedulers)
    found = []
    for step in range(1, epochs * length + 1):
        found += runner.optim_wrapper.get_lr()['lr']
        optimizer.step()
        for each in schedulers:
            if not each.by_epoch or step % length == 0:
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
def test_max_epochs_alone_drives_a_configs_schedule(root, line_run, name):
    """It stayed at 1.3 % of the base, or ended at 80 % of it."""
    cfg = Config.fromfile(root / 'configs' / f'{name}.py')
    longer, shorter = (rates(cfg, epochs, line_run) for epochs in (60, 30))
    base = max(longer)
    assert max(longer[-1], shorter[-1]) < 0.2 * base
    for share in 0.55, 0.65, 0.75, 0.85, 0.99:
        one, other = (
            found[int(share * len(found))] for found in (longer, shorter)
        )
        assert one == pytest.approx(other, rel=0.25, abs=5e-3 * base), share


@pytest.mark.parametrize('length', [2, 6, 500])
def test_warm_up_ends_early_in_a_short_run(root, line_run, length):
    cfg = Config.fromfile(root / 'configs/lighthead_shufflenetv2_custom.py')
    found = rates(cfg, 2, line_run, length)
    peak = max(found)
    assert peak > 0.7 * cfg.optim_wrapper.optimizer.lr
    assert found.index(peak) <= min(50, max(1, 0.2 * len(found)))


def test_epochs_of_a_schedule_are_stretched_and_its_ends_kept():
    cfg = run_config.load_config(RETINANET, {'train_cfg.max_epochs': 24})
    assert cfg.param_scheduler[1].milestones == [16, 22]
    cfg = run_config.load_config(RTMDET, {'train_cfg.max_epochs': 100})
    (hook,) = (h for h in cfg.custom_hooks if h.type == 'PipelineSwitchHook')
    assert hook.switch_epoch == 80
    assert cfg.train_cfg.dynamic_intervals == [(80, 1)]
    # A warm-up that a run is too short for.
    cfg = run_config.load_config(YOLOX, {'train_cfg.max_epochs': 1})
    assert [s.type for s in cfg.param_scheduler] == ['CosineAnnealingLR']


class Numbers(list):
    """Image i is the number i; says which were read."""

    def __init__(self):
        super().__init__(range(10))
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        return torch.tensor([float(index)])


def test_resumed_run_reads_only_what_it_had_not(line_run):
    def run_from(iteration):
        data = Numbers()
        loader = DataLoader(
            data,
            batch_size=2,
            sampler=InfiniteSampler(data, seed=5),
            collate_fn=lambda images: [torch.stack(images)],
        )
        runner = line_run(
            runner=Runner,
            train_dataloader=loader,
            train_cfg=dict(type='ResumableIterLoop', max_iters=7),
            default_hooks=dict(logger=None, checkpoint=None, timer=None),
        )
        loop = runner.build_train_loop(runner._train_loop)
        if iteration:
            # As workers do, which read ahead.
            next(iter(loader.sampler))
        runner._train_loop = loop
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        loop._iter = iteration
        loop.run()
        return runner.model.images, data.read

    whole, _ = run_from(0)
    rest, read = run_from(4)
    assert rest == whole[4:]
    assert read == [int(i) for batch in rest for i in batch]
