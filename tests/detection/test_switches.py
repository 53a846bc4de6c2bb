"""Each point on which Light-Head implementations differ is a switch.

Every test turns one switch of the base model and sees what it changes.
"""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

HALF_AS_WIDE = {
    'backbone.widen_factor': 0.5,
    'neck.in_channels': (96, 1024),
    'rpn_head.in_channels': 96,
}


@pytest.fixture
def build(root):
    """Build the 0.5x detector with some values of its config changed."""

    def make(**options):
        base = root / 'configs/_base_/models/lighthead_shufflenetv2.py'
        cfg = Config.fromfile(base)
        options = {**HALF_AS_WIDE, **options}
        cfg.merge_from_dict({f'model.{k}': v for k, v in options.items()})
        init_default_scope('mmdet')
        torch.manual_seed(0)
        return MODELS.build(cfg.model).eval()

    return make


def maps(model):
    """Shapes of the thin map and of the RPN's scores for a 64x96 image."""
    with torch.no_grad():
        features = model.extract_feat(torch.randn(1, 3, 64, 96))
        scores, _ = model.rpn_head(features)
    return tuple(features[0].shape), tuple(scores[0].shape)


def test_rpn_on_stage4(build):
    model = build(
        **{
            'backbone.out_indices': (2, 3),
            'neck.in_channels': (192, 1024),
            'rpn_head.in_channels': 192,
            'rpn_head.anchor_generator.strides': [32],
            'rpn_head.anchor_generator.scales': [1, 2, 4, 8, 16],
        }
    )
    assert maps(model) == ((1, 490, 2, 3), (1, 15, 2, 3))
    # The same anchor sizes in pixels on half as many places.
    widths = model.rpn_head.prior_generator.base_anchors[0]
    expected = build().rpn_head.prior_generator.base_anchors[0]
    torch.testing.assert_close(
        widths[:, 2:] - widths[:, :2], expected[:, 2:] - expected[:, :2]
    )


@pytest.mark.parametrize(
    'layer',
    [
        dict(type='PSRoIAlign', sampling_ratio=2, mode='max', aligned=False),
        dict(type='PSRoIPool', sampling_ratio=None),
    ],
    ids=['max of 2x2 without offset', 'pool'],
)
def test_pooling_changes_what_the_head_sees(build, layer):
    prefix = 'roi_head.bbox_roi_extractor.roi_layer'
    options = {f'{prefix}.{k}': v for k, v in layer.items()}
    if layer['sampling_ratio'] is None:
        options = {
            'roi_head.bbox_roi_extractor.roi_layer': dict(
                _delete_=True, type='PSRoIPool', output_size=7
            )
        }
    thin = torch.rand(1, 490, 4, 6)
    rois = torch.tensor([[0, 5.0, 7, 90, 60]])
    default = build().roi_head.bbox_roi_extractor((thin,), rois)
    other = build(**options).roi_head.bbox_roi_extractor((thin,), rois)
    assert other.shape == default.shape == (1, 10, 7, 7)
    assert not torch.allclose(other, default)


@pytest.mark.parametrize(
    'option, value, named',
    [
        ('roi_head.bbox_head.in_channels', 12, 'expected 588 .* got 490'),
        ('neck.out_channels', 98, 'expected 490 .* got 98'),
        ('roi_head.bbox_head.roi_feat_size', 5, r'expected \(7, 7\)'),
        (
            'roi_head.bbox_roi_extractor.roi_layer.output_size',
            5,
            r'roi_feat_size: expected \(5, 5\)',
        ),
        ('rpn_head.in_channels', 232, 'rpn_head.in_channels: expected 96'),
    ],
)
def test_parts_that_do_not_fit_are_refused_at_build(
    build, option, value, named
):
    with pytest.raises(ValueError, match=named):
        build(type='LightHeadRCNN', **{option: value})


def test_numbers_of_classes_that_differ_are_refused_at_build(root):
    cfg = Config.fromfile(root / 'configs/rfcn_shufflenetv2.py').model
    cfg.type = 'RFCN'
    MODELS.build(cfg)
    cfg.roi_head.bbox_head.num_classes = 3
    with pytest.raises(ValueError, match=r'expected 392 .* num_classes'):
        MODELS.build(cfg)
