"""A published name is all that a classifier's config says."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

import mmdet_shufflenetv2.classification  # noqa: F401  (registers it)
from mmdet_shufflenetv2.backbones import ShuffleNetV2

HEAD = dict(type='LinearClsHead', num_classes=7)


def build(network, **options):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(
            dict(
                type='PublishedClassifier',
                network=network,
                neck=dict(type='GlobalAveragePooling'),
                head=HEAD,
                **options,
            )
        )


def test_backbone_is_this_projects_and_whole():
    model = build('shufflenet_v2_x0_5')
    assert isinstance(model.backbone, ShuffleNetV2)
    assert model.backbone.out_indices == (3,)
    assert model.head.fc.weight.shape == (7, 1024)
    images = torch.rand(2, 3, 64, 64)
    assert model(images, mode='tensor').shape == (2, 7)


def test_backbone_takes_further_arguments():
    model = build('shufflenet_v2_x0_5', backbone=dict(style='authors'))
    assert model.backbone.style == 'authors'


def test_unknown_name_is_refused_with_near_ones():
    with pytest.raises(ValueError, match='shufflenet_v2_x1_0'):
        build('shufflenet_v2_x1')


@pytest.mark.parametrize('levels', [(0,), (2, 3), (), 3, None])
def test_other_levels_than_the_classified_one_are_refused(levels):
    with pytest.raises(ValueError, match=r'out_indices .* must be \(3,\)'):
        build('shufflenet_v2_x0_5', backbone=dict(out_indices=levels))
    model = build('shufflenet_v2_x0_5', backbone=dict(out_indices=[3]))
    assert model.backbone.out_indices == (3,)


def test_weights_start_a_detectors_backbone(tmp_path):
    """Its levels are fewer, its last stage dilated."""
    classifier = build('shufflenet_v2_x0_5')
    path = tmp_path / 'classifier.pth'
    torch.save(dict(state_dict=classifier.state_dict()), path)
    backbone = ShuffleNetV2(
        0.5,
        out_indices=(1, 2),
        strides=(2, 2, 1),
        dilations=(1, 1, 2),
        init_cfg=dict(
            type='Pretrained', checkpoint=str(path), prefix='backbone.'
        ),
    )
    backbone.init_weights()
    weights = classifier.backbone.state_dict()
    assert len(backbone.state_dict()) < len(weights)
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, weights[key])
