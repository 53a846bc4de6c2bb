import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from mmdet_shufflenetv2.backbones import ShuffleNetV2

# isort: split
from mmdet.models import DetDataPreprocessor

from mmdet_shufflenetv2.compat.checkpoints import CheckpointError
from mmdet_shufflenetv2.compat.input_format import NORMALISED_RGB, RAW_BGR
from mmdet_shufflenetv2.engine.conversion import OURS, read, write
from mmdet_shufflenetv2.engine.runner import (
    CheckedRunner,
    CheckpointMismatch,
    load_fitting,
    mismatches,
)


def network(classes=3):
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, classes))


def test_the_same_network_has_no_mismatch():
    assert mismatches(network().state_dict(), network().state_dict()) == []


def test_every_kind_of_mismatch_is_named():
    state = network(5).state_dict()
    del state['0.bias']
    state['2.weight'] = torch.zeros(1)
    missing, unknown, shapes = mismatches(network().state_dict(), state)
    assert missing == '1 missing in the checkpoint: 0.bias'
    assert unknown == '1 unknown to the model: 2.weight'
    assert '1.weight (checkpoint (5, 8), model (3, 8))' in shapes


def test_long_lists_are_cut():
    state = {f'extra{i}': torch.zeros(1) for i in range(9)}
    unknown = mismatches({}, state)[0]
    assert unknown.startswith('9 unknown')
    assert unknown.endswith('extra4, ...')


def test_fitting_checkpoint_is_loaded(tmp_path):
    path = tmp_path / 'fits.pth'
    source, target = network(), network()
    wrapped = {f'module.{k}': v for k, v in source.state_dict().items()}
    torch.save(dict(state_dict=wrapped, meta=dict(epoch=3)), path)
    checkpoint = load_fitting(target, str(path))
    assert checkpoint['meta']['epoch'] == 3
    x = torch.randn(2, 4)
    torch.testing.assert_close(target(x), source(x))


def test_other_number_of_classes_is_refused_whole(tmp_path):
    path = tmp_path / 'five.pth'
    meta = dict(dataset_meta=dict(classes=['a', 'b', 'c', 'd', 'e']))
    torch.save(dict(state_dict=network(5).state_dict(), meta=meta), path)
    target = network()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointMismatch) as error:
        load_fitting(target, str(path))
    assert str(path) in str(error.value)
    assert '1.weight (checkpoint (5, 8), model (3, 8))' in str(error.value)
    assert 'knows 5 classes: a, b, c, d, e' in str(error.value)
    for key, value in target.state_dict().items():
        assert torch.equal(value, before[key])


def test_foreign_names_point_to_the_converter(tmp_path):
    path = tmp_path / 'foreign.pth'
    torch.save({'features.0.weight': torch.zeros(1)}, path)
    with pytest.raises(CheckpointMismatch, match=r'convert_checkpoint\.py'):
        load_fitting(network(), str(path))


class Detector(BaseModule):
    """As much of one as has to do with pretrained weights."""

    def __init__(self, expected_input, **backbone):
        super().__init__()
        options = expected_input.preprocessor_options(dict(type='Det'))
        self.data_preprocessor = DetDataPreprocessor(**options)
        self.backbone = ShuffleNetV2(0.5, **backbone)


def test_checkpoint_for_other_images_is_refused_whole(tmp_path):
    path = tmp_path / 'bgr.pth'
    source, target = Detector(RAW_BGR), Detector(NORMALISED_RGB)
    meta = dict(input_format=RAW_BGR.to_meta())
    torch.save(dict(state_dict=source.state_dict(), meta=meta), path)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError, match='expect images as BGR 0-255'):
        load_fitting(target, str(path))
    for key, value in target.state_dict().items():
        assert torch.equal(value, before[key])
    load_fitting(source, str(path))


@pytest.fixture
def authors_weights(tmp_path):
    """Of the authors' 0.5x, whose shapes are those of torchvision's."""
    backbone = ShuffleNetV2(0.5, out_indices=(3,), style='authors')
    weights = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    meta = dict(style='authors', input_format=RAW_BGR.to_meta())
    content = write(read(dict(state_dict=weights, meta=meta), 'x.pth'), OURS)
    torch.save(content, tmp_path / 'authors.pth')
    return dict(type='Pretrained', checkpoint=str(tmp_path / 'authors.pth'))


def initialise(model, tmp_path):
    name = f'{tmp_path.name}_{id(model)}'
    CheckedRunner(
        model, str(tmp_path), experiment_name=name
    )._init_model_weights()


def test_pretrained_backbone_needs_the_images_it_expects(
    authors_weights, tmp_path
):
    options = dict(style='authors', init_cfg=authors_weights)
    with pytest.raises(CheckpointError, match=r'bgr_to_rgb=False .*mean=\['):
        initialise(Detector(NORMALISED_RGB, **options), tmp_path)
    model = Detector(RAW_BGR, **options)
    initialise(model, tmp_path)
    saved = torch.load(authors_weights['checkpoint'], weights_only=True)
    key = 'backbone.conv1.0.weight'
    assert torch.equal(model.state_dict()[key], saved['state_dict'][key])


def test_another_style_is_refused_where_shapes_agree(tmp_path):
    path = tmp_path / 'authors.pth'
    model = Detector(NORMALISED_RGB)
    meta = dict(style='authors')
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    with pytest.raises(
        CheckpointMismatch, match=r'model\.backbone\.style=authors'
    ):
        load_fitting(model, str(path))
    load_fitting(Detector(NORMALISED_RGB, style='authors'), str(path))


def test_declared_style_is_checked_where_shapes_agree(
    authors_weights, tmp_path
):
    model = Detector(RAW_BGR, init_cfg=authors_weights)
    with pytest.raises(CheckpointError, match="style must be 'authors'"):
        initialise(model, tmp_path)
