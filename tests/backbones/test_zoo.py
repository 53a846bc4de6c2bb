"""The list of the paper's networks."""

import pytest
import torch
from mmengine.config import Config

from mmdet_shufflenetv2.backbones.zoo import (
    NETWORKS,
    build_classifier,
    network_of,
)


def test_a_name_with_a_width_builds_that_width_and_those_groups():
    for name, row in NETWORKS.items():
        _, _, width = name.partition('_x')
        width, _, groups = width.partition('_g')
        if width:
            stated = float(width.replace('_', '.'))
            assert row.config['widen_factor'] == stated, name
        if groups:
            assert row.config['groups'] == int(groups), name


def test_a_classifier_gives_a_score_per_class():
    model = build_classifier('mobilenet_v1_x0_25', num_classes=7).eval()
    images = torch.randn(2, 3, 32, 32)
    scores = model(images)
    assert scores.shape == (2, 7)
    features = model.backbone(images)[-1]
    torch.testing.assert_close(scores, model.fc(features.mean((2, 3))))


def test_an_unknown_name_is_refused_with_similar_ones():
    with pytest.raises(ValueError, match='shufflenet_v2_x1_0'):
        build_classifier('shufflenet_v2_x10')


@pytest.mark.parametrize('name', ['shufflenet_v2_x1_0', 'xception_x0_5'])
def test_network_is_recognised_whatever_levels_are_read(name):
    backbone = dict(NETWORKS[name].config, out_indices=(1,), with_cp=True)
    assert network_of(backbone) == name


def test_frozen_batch_norm_leaves_the_network_and_another_norm_does_not():
    backbone = NETWORKS['shufflenet_v2_x1_0'].config
    frozen = dict(backbone, norm_cfg=dict(type='BN', requires_grad=False))
    assert network_of(frozen) == 'shufflenet_v2_x1_0'
    other = dict(backbone, norm_cfg=dict(type='GN', num_groups=2))
    assert network_of(other) is None


def test_network_with_another_stride_is_none_of_the_published(root):
    path = root / 'configs/lighthead_shufflenetv2_custom.py'
    assert network_of(Config.fromfile(path).model.backbone) is None
