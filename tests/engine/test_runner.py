"""Checkpoints fit whole or not at all; a run that goes on is the same run."""

import os
import shutil
from functools import partial
from unittest.mock import Mock

import mmengine.device.utils as device
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import nn

from mmdet_shufflenetv2.backbones import ShuffleNetV2

# isort: split
from mmdet.models import DetDataPreprocessor

from mmdet_shufflenetv2.compat.atomic_files import write_atomically
from mmdet_shufflenetv2.compat.checkpoints import CheckpointError
from mmdet_shufflenetv2.compat.input_format import NORMALISED_RGB, RAW_BGR
from mmdet_shufflenetv2.engine.early_log import keep_records
from mmdet_shufflenetv2.engine.runner import join_processes
from mmdet_shufflenetv2.engine.weights import load_fitting
from mmdet_shufflenetv2.errors import UserError


def network(classes=3):
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, classes))


def test_every_kind_of_mismatch_is_named_and_nothing_is_loaded(saved):
    state = network(5).state_dict()
    del state['0.bias']
    state |= {f'extra{i}': torch.zeros(1) for i in range(9)}
    target = network()
    before = target[0].weight.clone()
    path = saved(state, dataset_meta=dict(classes=list('abcde')))
    with pytest.raises(CheckpointError) as error:
        load_fitting(target, path)
    for words in (
        '1 missing in the checkpoint: 0.bias',
        '9 unknown to the model: extra0, extra1, extra2, extra3, extra4, ...',
        '1.weight (checkpoint (5, 8), model (3, 8))',
        'has 5 classes: a, b, c, d, e',
    ):
        assert words in str(error.value)
    assert torch.equal(target[0].weight, before)


class Detector(BaseModule):
    """As much of one as has to do with pretrained weights."""

    def __init__(self, expected_input=NORMALISED_RGB, **backbone):
        super().__init__()
        options = expected_input.preprocessor_options(dict(type='Det'))
        self.data_preprocessor = DetDataPreprocessor(**options)
        self.backbone = ShuffleNetV2(0.5, **backbone)


def test_other_images_or_channels_of_equal_shapes_are_refused(saved, tmp_path):
    state = Detector().state_dict()
    path = saved(state, input_format=RAW_BGR.to_meta())
    with pytest.raises(CheckpointError, match='expect images as BGR 0-255'):
        load_fitting(Detector(), path)
    load_fitting(Detector(RAW_BGR), path)
    path = saved(state, style='authors')
    (tmp_path / 'run.py').touch()
    said = r'backbone\.style=authors\n  the config of its run .*run\.py'
    with pytest.raises(CheckpointError, match=said):
        load_fitting(Detector(), path)
    load_fitting(Detector(style='authors'), path)


def test_a_pretrained_backbone_needs_the_images_it_expects(saved, line_run):
    weights = ShuffleNetV2(0.5).state_dict()
    path = saved(weights, input_format=RAW_BGR.to_meta())
    init_cfg = dict(type='Pretrained', checkpoint=path)
    model = Detector(RAW_BGR, init_cfg=init_cfg)
    line_run(model=model)._init_model_weights()
    first = model.backbone.conv1[0].weight
    assert torch.equal(first, weights['conv1.0.weight'])
    other = line_run(model=Detector(init_cfg=init_cfg))
    with pytest.raises(CheckpointError, match=r'bgr_to_rgb="False" .*mean='):
        other._init_model_weights()


def test_log_file_begins_with_what_was_said_before_there_was_one(
    tmp_path, line_run
):
    keep_records()
    print_log('a box is thin', 'current', level=30)
    for name in 'first', 'second':
        line_run(work_dir=str(tmp_path / name))
    (first,) = tmp_path.glob('first/*/*.log')
    (second,) = tmp_path.glob('second/*/*.log')
    assert 'WARNING - a box is thin' in first.read_text().splitlines()[0]
    assert 'a box is thin' not in second.read_text()


LAUNCHED = {
    'pytorch': 'RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 MASTER_ADDR=127.0.0.1',
    'slurm': 'SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_LOCALID=1 '
    'SLURM_NODELIST=localhost MASTER_ADDR=127.0.0.1',
    'mpi': 'OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 '
    'OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2',
}


@pytest.fixture
def launched(monkeypatch):
    """Join the processes of a launcher; give what PyTorch is called with."""

    def join(launcher, has_gpu, variables=''):
        start, use = Mock(), Mock()
        monkeypatch.setattr(device, 'DEVICE', 'cuda' if has_gpu else 'cpu')
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
        monkeypatch.setattr(torch.cuda, 'set_device', use)
        monkeypatch.setattr(torch.distributed, 'init_process_group', start)
        monkeypatch.setattr(torch.multiprocessing, 'set_start_method', Mock())
        for pair in (variables or LAUNCHED[launcher]).split():
            monkeypatch.setenv(*pair.split('='))
        join_processes(launcher, Config())
        names = 'RANK', 'WORLD_SIZE', 'MASTER_ADDR'
        assert [*map(os.environ.get, names)] == ['1', '2', '127.0.0.1']
        return start.call_args.kwargs['backend'], use.called

    return join


@pytest.mark.parametrize('launcher', LAUNCHED)
def test_every_launcher_joins_its_processes_on_cpus_and_gpus(
    launcher, launched
):
    assert launched(launcher, has_gpu=False) == ('gloo', False)
    assert launched(launcher, has_gpu=True) == ('nccl', True)


def test_mpirun_on_several_machines_needs_the_first_ones_address(launched):
    several = LAUNCHED['mpi'].replace('LOCAL_SIZE=2', 'LOCAL_SIZE=1')
    with pytest.raises(UserError, match='-x MASTER_ADDR=HOST'):
        launched('mpi', False, several)


COSINE = dict(
    type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True
)


@pytest.fixture
def trained(line_run, tmp_path):
    """Runs, from the start or from the second epoch of the first one."""

    def train(epochs, resume=False, **more):
        if resume:
            path = str(tmp_path / 'epoch_2.pth')
            more |= dict(resume=True, load_from=path)
        runner = line_run(epochs, param_scheduler=COSINE, **more)
        runner.train()
        return runner

    return train


@pytest.mark.parametrize('hooks', [[], [dict(type='EMAHook', momentum=0.3)]])
def test_training_goes_on_from_the_weights_that_were_trained(hooks, trained):
    """Not from the averaged ones, which EMAHook saves for tests."""
    whole = trained(4, custom_hooks=hooks).model
    rest = trained(4, resume=True, custom_hooks=hooks).model
    assert rest.seen == pytest.approx(whole.seen[8:], abs=1e-6)
    assert rest.weight.item() == pytest.approx(whole.weight.item(), abs=1e-6)


def test_without_averaging_training_goes_on_from_the_trained_weights(trained):
    averaged = trained(2, custom_hooks=[dict(type='EMAHook', momentum=0.3)])
    rest = trained(4, resume=True).model
    assert rest.seen[0] == pytest.approx(averaged.model.weight.item())


# Steps of an epoch, as another batch size would change them.
TWO_STEPS = dict(
    dataset=[torch.ones(1)] * 2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    batch_size=1,
)


@pytest.mark.parametrize(
    'epochs, changes',
    [
        (3, {}),
        (8, {}),
        (4, dict(train_dataloader=TWO_STEPS)),
        (4, dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)))),
    ],
)
def test_another_length_batch_or_rate_has_its_place_in_the_schedule(
    epochs, changes, trained, tmp_path
):
    trained(4)
    runs = (
        trained(epochs, work_dir=str(tmp_path / 'whole'), **changes),
        trained(epochs, resume=True, **changes),
    )
    assert runs[0].iter == runs[1].iter
    rates = [
        list(each.message_hub.get_scalar('train/lr').data[0][-2:])
        for each in runs
    ]
    assert rates[1] == pytest.approx(rates[0], rel=1e-4, abs=1e-9)


@pytest.fixture
def keeping(line_run):
    """Make a runner that keeps its last and its best checkpoint."""
    hook = dict(type='CheckpointHook', save_best='score', rule='greater')
    hooks = dict(checkpoint=dict(hook, interval=1, max_keep_ckpts=1))
    return partial(line_run, default_hooks=hooks)


def score(runner, value):
    """End a validation that has this score."""
    hook = next(h for h in runner.hooks if isinstance(h, CheckpointHook))
    hook.after_val_epoch(runner, dict(score=value))
    return hook


@pytest.mark.parametrize('copied, value', [(True, 0.6), (False, 0.4)])
def test_the_best_checkpoint_of_another_run_stays(
    copied, value, keeping, tmp_path
):
    first, other = tmp_path / 'first', tmp_path / 'other'
    runner = keeping(work_dir=str(first))
    runner.train()
    score(runner, 0.5)
    if copied:
        shutil.copytree(first, other)
    path = str((other if copied else first) / 'epoch_2.pth')
    resumed = keeping(3, work_dir=str(other), resume=True, load_from=path)
    resumed.train()
    # A run in a new folder has a best checkpoint of its own.
    score(resumed, value)
    assert [p.stem for p in other.glob('best*')] == ['best_score_epoch_3']
    assert [p.stem for p in first.glob('best*')] == ['best_score_epoch_2']


def test_killed_while_saving_keeps_the_last_and_the_best(
    keeping, tmp_path, monkeypatch
):
    def files():
        return sorted(path.stem for path in tmp_path.glob('*.pth'))

    def kill(*args, **kwargs):
        raise KeyboardInterrupt

    write_atomically()
    runner = keeping()
    runner.train()
    hook = score(runner, 0.5)
    assert files() == ['best_score_epoch_2', 'epoch_2']
    monkeypatch.setattr(runner, 'save_checkpoint', kill)
    with pytest.raises(KeyboardInterrupt):
        score(runner, 0.6)
    with pytest.raises(KeyboardInterrupt):
        hook._save_checkpoint(runner)
    assert files() == ['best_score_epoch_2', 'epoch_2']
    monkeypatch.undo()
    score(runner, 0.7)
    # A second validation in one epoch gives the same name.
    score(runner, 0.8)
    assert files() == ['best_score_epoch_2', 'epoch_2']
