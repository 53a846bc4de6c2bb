"""Switches of the base model, and parts that do not fit each other."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config


@pytest.fixture
def build(root):
    """Build the detector with some values of its config changed."""

    def make(base='_base_/models/lighthead_shufflenetv2', **options):
        cfg = Config.fromfile(root / f'configs/{base}.py')
        options = {f'model.{key}': value for key, value in options.items()}
        cfg.merge_from_dict({'model.type': 'LightHeadRCNN'} | options)
        cfg.model.backbone.init_cfg = None
        with torch.device('meta'):
            return MODELS.build(cfg.model).eval()

    return make


@pytest.mark.parametrize(
    'options, thin, rpn',
    [
        (
            {
                'backbone.strides': (2, 2, 1),
                'backbone.dilations': (1, 1, 2),
                'roi_head.bbox_roi_extractor.featmap_strides': [16],
            },
            *((4, 6), (4, 6)),
        ),
        (
            {
                'backbone.out_indices': (2, 3),
                'neck.in_channels': (464, 1024),
                'rpn_head.in_channels': 464,
                'rpn_head.anchor_generator.strides': [32],
            },
            *((2, 3), (2, 3)),
        ),
        (
            {'backbone.out_indices': (1, 2), 'neck.in_channels': (232, 464)},
            *((2, 3), (4, 6)),
        ),
    ],
    ids=['stage4 dilated to stride 16', 'RPN on stage4', 'conv5 left out'],
)
def test_a_switch_changes_the_maps(build, options, thin, rpn):
    model = build(**options)
    features = model.extract_feat(torch.empty(1, 3, 64, 96, device='meta'))
    assert features[0].shape == (1, 490, *thin)
    scores, _ = model.rpn_head(features)
    assert scores[0].shape == (1, 15, *rpn)
    layer = model.roi_head.bbox_roi_extractor.roi_layers[0]
    assert layer.spatial_scale == thin[0] / 64


LARGER_BINS = 'roi_head.bbox_roi_extractor.roi_layer.output_size'


@pytest.mark.parametrize(
    'option, value, named',
    [
        ('roi_head.bbox_head.in_channels', 12, 'expected 588 .* got 490'),
        ('neck.out_channels', 98, 'expected 490 .* got 98'),
        ('roi_head.bbox_head.roi_feat_size', 5, r'expected \(7, 7\)'),
        (LARGER_BINS, 9, r'roi_feat_size: expected \(9, 9\)'),
        ('rpn_head.in_channels', 96, 'rpn_head.in_channels: expected 232'),
    ],
)
def test_parts_that_do_not_fit_are_refused(build, option, value, named):
    with pytest.raises(ValueError, match=named):
        build(**{option: value})


def test_mmdets_own_box_head_is_checked_too(build):
    head = {
        'roi_head.bbox_head.type': 'ConvFCBBoxHead',
        'roi_head.bbox_head.num_shared_fcs': 1,
    }
    build(**head)
    with pytest.raises(ValueError, match=r'expected 588 .* got 490'):
        build(**head, **{'roi_head.bbox_head.in_channels': 12})


def test_numbers_of_classes_of_r_fcn_that_differ_are_refused(build):
    build('rfcn_shufflenetv2', type='RFCN')
    with pytest.raises(ValueError, match=r'expected 392 .* num_classes'):
        build('rfcn_shufflenetv2', **{'roi_head.bbox_head.num_classes': 3})
