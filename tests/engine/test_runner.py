"""Checkpoints fit whole or not at all; a run that goes on is the same run."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseModel, BaseModule
from torch import nn

from mmdet_shufflenetv2.backbones import ShuffleNetV2

# isort: split
from mmdet.models import DetDataPreprocessor

from mmdet_shufflenetv2.compat.checkpoints import CheckpointError
from mmdet_shufflenetv2.compat.input_format import NORMALISED_RGB, RAW_BGR
from mmdet_shufflenetv2.engine.early_log import keep_records
from mmdet_shufflenetv2.engine.runner import (
    CheckedRunner,
    CheckpointMismatch,
    load_fitting,
)


@pytest.fixture
def saved(tmp_path):
    def save(state: dict, **meta) -> str:
        torch.save(dict(state_dict=state, meta=meta), tmp_path / 'a.pth')
        return str(tmp_path / 'a.pth')

    return save


def network(classes=3):
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, classes))


def test_fitting_checkpoint_is_loaded(saved):
    source, target = network(), network()
    wrapped = {f'module.{k}': v for k, v in source.state_dict().items()}
    assert load_fitting(target, saved(wrapped, epoch=3))['meta']['epoch'] == 3
    assert torch.equal(target[0].weight, source[0].weight)


def test_every_kind_of_mismatch_is_named_and_nothing_is_loaded(saved):
    state = network(5).state_dict()
    del state['0.bias']
    state |= {f'extra{i}': torch.zeros(1) for i in range(9)}
    target = network()
    before = target[0].weight.clone()
    path = saved(state, dataset_meta=dict(classes=list('abcde')))
    with pytest.raises(CheckpointMismatch) as error:
        load_fitting(target, path)
    for words in (
        path,
        '1 missing in the checkpoint: 0.bias',
        '9 unknown to the model: extra0, extra1, extra2, extra3, extra4, ...',
        '1.weight (checkpoint (5, 8), model (3, 8))',
        'knows 5 classes: a, b, c, d, e',
    ):
        assert words in str(error.value)
    assert torch.equal(target[0].weight, before)
    with pytest.raises(CheckpointMismatch, match=r'convert_checkpoint\.py'):
        load_fitting(target, saved({'features.0.weight': torch.zeros(1)}))


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
    with pytest.raises(CheckpointMismatch, match=said):
        load_fitting(Detector(), path)
    load_fitting(Detector(style='authors'), path)


def test_a_pretrained_backbone_needs_the_images_it_expects(saved, tmp_path):
    weights = ShuffleNetV2(0.5).state_dict()
    path = saved(weights, input_format=RAW_BGR.to_meta())
    init_cfg = dict(type='Pretrained', checkpoint=path)

    def initialise(model, name):
        name = f'{tmp_path.name}_{name}'
        runner = CheckedRunner(model, str(tmp_path), experiment_name=name)
        runner._init_model_weights()

    model = Detector(RAW_BGR, init_cfg=init_cfg)
    initialise(model, 'fits')
    assert torch.equal(
        model.backbone.conv1[0].weight, weights['conv1.0.weight']
    )
    with pytest.raises(CheckpointError, match=r'bgr_to_rgb=False .*mean=\['):
        initialise(Detector(init_cfg=init_cfg), 'differs')


def test_log_file_begins_with_what_was_said_before_there_was_one(tmp_path):
    keep_records()
    print_log('a box is thin', 'current', level=30)
    for name in 'first', 'second':
        folder = str(tmp_path / name)
        CheckedRunner(nn.Identity(), folder, experiment_name=name)
    (first,) = tmp_path.glob('first/*/*.log')
    (second,) = tmp_path.glob('second/*/*.log')
    assert 'WARNING - a box is thin' in first.read_text().splitlines()[0]
    assert 'a box is thin' not in second.read_text()


class Line(BaseModel):
    """Learns a slope; remembers the weight of each of its steps."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, inputs, mode='loss'):
        self.seen.append(self.weight.item())
        return dict(loss=((self.weight * inputs - 3 * inputs) ** 2).mean())


def run(work_dir, epochs, name, **more):
    cfg = Config(
        dict(
            train_dataloader=dict(
                dataset=[torch.ones(1)] * 4,
                sampler=dict(type='DefaultSampler', shuffle=False),
                batch_size=1,
            ),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
            param_scheduler=dict(
                type='CosineAnnealingLR',
                by_epoch=True,
                convert_to_iter_based=True,
            ),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', interval=1)
            ),
            **more,
        )
    )
    options = copy.deepcopy(cfg.to_dict())
    name = f'{work_dir.name}_{name}'
    runner = CheckedRunner(
        Line(), str(work_dir), **options, cfg=cfg, experiment_name=name
    )
    runner.train()
    return runner.model, runner


def resumed(tmp_path, epochs, name, **more):
    more |= dict(resume=True, load_from=str(tmp_path / 'epoch_2.pth'))
    return run(tmp_path, epochs, name, **more)


@pytest.mark.parametrize('hooks', [[], [dict(type='EMAHook', momentum=0.3)]])
def test_training_goes_on_from_the_weights_that_were_trained(hooks, tmp_path):
    """Not from the averaged ones, which EMAHook saves for tests."""
    whole, _ = run(tmp_path, 4, 'whole', custom_hooks=hooks)
    rest, _ = resumed(tmp_path, 4, 'rest', custom_hooks=hooks)
    assert rest.seen == pytest.approx(whole.seen[8:], abs=1e-6)
    assert rest.weight.item() == pytest.approx(whole.weight.item(), abs=1e-6)


@pytest.mark.parametrize('epochs', [3, 8])
def test_another_length_moves_the_rate_to_its_place(epochs, tmp_path):
    run(tmp_path, 4, 'first')
    _, whole = run(tmp_path / 'whole', epochs, 'whole')
    _, longer = resumed(tmp_path, epochs, 'longer')
    rates = [
        list(each.message_hub.get_scalar('train/lr').data[0])
        for each in (whole, longer)
    ]
    assert rates[1][-4:] == pytest.approx(rates[0][-4:], rel=1e-4, abs=1e-9)


def test_a_finished_run_says_that_nothing_is_left(tmp_path):
    run(tmp_path, 2, 'first')
    model, runner = resumed(tmp_path, 2, 'again')
    assert model.seen == []
    log = next((tmp_path).glob(f'{runner.timestamp}/*.log')).read_text()
    assert 'has all 8 iterations: nothing is left to train' in log
