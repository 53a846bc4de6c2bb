"""Curves, a run that diverges, weights that expect other images."""

import re
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmdet_shufflenetv2.backbones import ShuffleNetV2

# isort: split
from mmdet.models import DetDataPreprocessor

from mmdet_shufflenetv2.compat.input_format import (
    NORMALISED_RGB,
    RAW_BGR,
    SCALED_BGR,
)
from mmdet_shufflenetv2.engine import hooks
from mmdet_shufflenetv2.engine.hooks import (
    AMP_PATIENCE,
    ClassListHook,
    DivergenceHook,
    InputCheckHook,
    TrainingDiverged,
)
from mmdet_shufflenetv2.errors import UserError


def loop(*classes):
    dataset = SimpleNamespace(metainfo=dict(classes=classes))
    return SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))


@pytest.mark.parametrize(
    'head, val, tested, message',
    [
        (2, ('a', 'b'), ('a', 'b'), None),
        (3, ('a', 'b'), ('a', 'b'), r'bbox_head: .*=2 \(a, b\), got 3'),
        (2, ('b', 'a'), ('a', 'b'), 'train: a, b; val: b, a'),
        (2, ('a', 'b'), ('b', 'a'), 'of the val data: a, b; got one of b, a'),
    ],
)
def test_class_lists_of_another_order_or_length_stop_a_run(
    head, val, tested, message
):
    model = nn.ModuleDict(dict(bbox_head=nn.Identity(), rpn_head=nn.ReLU()))
    model.bbox_head.num_classes, model.rpn_head.num_classes = head, 1
    run = SimpleNamespace(model=model, _test_loop=None, _val_loop=loop(*val))
    checkpoint = dict(meta=dict(dataset_meta=dict(classes=tested)))
    hook = ClassListHook()
    with pytest.raises(UserError, match=message) if message else nullcontext():
        run._train_loop = loop('a', 'b')
        hook.before_run(run)
        # Training may start from a checkpoint of other classes.
        hook.after_load_checkpoint(run, checkpoint)
        run._train_loop = dict(type='EpochBasedTrainLoop')
        hook.after_load_checkpoint(run, checkpoint)


class Spoiled(nn.Module):
    """Its loss, or its weight after the step, is spoiled in one step."""

    def __init__(self, bad_loss=None, bad_weight=None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.bad_loss, self.bad_weight = bad_loss, bad_weight
        self.steps = 0

    def train_step(self, data, optim_wrapper):
        self.steps += 1
        if self.steps == self.bad_weight:
            self.weight.data.fill_(float('nan'))
        loss = float('inf') if self.steps == self.bad_loss else 1.0
        return dict(loss_a=torch.tensor(loss), loss_b=torch.ones(()))


def test_bad_loss_is_named_with_its_iteration_checkpoint_and_advice(
    tmp_path, line_run
):
    with pytest.raises(TrainingDiverged) as stopped:
        line_run(model=Spoiled(bad_loss=6)).train()
    error = str(stopped.value)
    assert 'loss_a is inf in iteration 6; ' in error
    assert 'loss_b' not in error
    assert f'the last complete checkpoint is {tmp_path}/epoch_1.pth' in error
    assert '--lr 0.0125 (now 0.05)' in error


def test_weights_spoiled_by_the_last_step_of_an_epoch_are_not_saved(
    tmp_path, line_run
):
    with pytest.raises(TrainingDiverged, match='no checkpoint has been'):
        line_run(model=Spoiled(bad_weight=4)).train()
    assert not list(tmp_path.glob('*.pth'))


def test_mixed_precision_may_leave_out_steps_but_not_for_ever(tmp_path):
    run = SimpleNamespace(
        optim_wrapper=SimpleNamespace(loss_scaler='dynamic'),
        iter=0,
        work_dir=str(tmp_path),
        cfg={},
    )
    hook = DivergenceHook()
    bad, good = ({'loss': torch.tensor(v)} for v in (float('nan'), 1.0))
    for outputs in [*[bad] * AMP_PATIENCE, good, *[bad] * AMP_PATIENCE]:
        hook.after_train_iter(run, 0, None, outputs)
    with pytest.raises(TrainingDiverged):
        hook.after_train_iter(run, 0, None, bad)


def preprocessor(expected) -> DetDataPreprocessor:
    options = expected.preprocessor_options(dict(type='DetDataPreprocessor'))
    return DetDataPreprocessor(**options)


@pytest.mark.parametrize('is_main', [True, False])
@pytest.mark.parametrize(
    'expected, start, said',
    [
        (SCALED_BGR, 'Pretrained',
         '30 a.pth: images as RGB.*first norm, conv1.1; as BGR.*'
         r'bgr_to_rgb="False" model.data_preprocessor.mean=.*'
         r'std="\[255.0, 255.0, 255.0\]"'),
        (RAW_BGR, 'Pretrained',
         r'30 a.pth: .*; as BGR 0-255.*std="\[1.0, 1.0, 1.0\]"'),
        (NORMALISED_RGB, 'Pretrained', '20 a.pth: .* they fit the weights'),
        # Random weights expect nothing.
        (SCALED_BGR, 'Kaiming', '^$'),
    ],
)  # fmt: skip
def test_images_are_compared_with_what_the_first_norm_has_seen(
    expected, start, said, is_main, monkeypatch
):
    monkeypatch.setattr(hooks, 'is_main_process', lambda: is_main)
    torch.manual_seed(0)
    # BGR of 0 to 255, more red than blue.
    images = torch.rand(4, 3, 64, 64) * 120
    images += torch.tensor([10.0, 60, 130])[:, None, None]
    images = list(images.to(torch.uint8))
    model = nn.Module()
    model.backbone = ShuffleNetV2(0.5)
    model.backbone.conv1[1].momentum = None
    batch = preprocessor(expected)(dict(inputs=images), training=True)
    model.backbone.train()(batch['inputs'])
    model.data_preprocessor = preprocessor(NORMALISED_RGB)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    config = dict(
        backbone=dict(init_cfg=dict(type=start, checkpoint='a.pth')),
        data_preprocessor=dict(type='DetDataPreprocessor'),
    )
    found, data = [], [dict(inputs=image) for image in images]
    # Only the first process reads images.
    data, said = (data, said) if is_main else (None, '^$')
    run = SimpleNamespace(
        model=model,
        cfg=Config(dict(model=config)),
        iter=0,
        logger=SimpleNamespace(log=lambda *text: found.append(text)),
        train_dataloader=SimpleNamespace(dataset=data),
    )
    InputCheckHook().before_train(run)
    assert re.search(said, ''.join(f'{level} {text}' for level, text in found))
    # The network is as it was.
    assert model.backbone.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
