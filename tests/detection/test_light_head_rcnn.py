"""Options of the base model, and the check that its parts fit."""

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


def test_stage4_may_be_dilated_and_conv5_left_out(build):
    model = build(
        **{
            'backbone.strides': (2, 2, 1),
            'backbone.dilations': (1, 1, 2),
            'backbone.out_indices': (1, 2),
            'neck.in_channels': (232, 464),
            'roi_head.bbox_roi_extractor.featmap_strides': [16],
        }
    )
    features = model.extract_feat(torch.empty(1, 3, 64, 96, device='meta'))
    assert features[0].shape == (1, 490, 4, 6)
    scores, _ = model.rpn_head(features)
    assert scores[0].shape == (1, 15, 4, 6)


LARGER_BINS = 'roi_head.bbox_roi_extractor.roi_layer.output_size'


HEAD = 'roi_head.bbox_head.'
MMDETS = {f'{HEAD}type': 'ConvFCBBoxHead', f'{HEAD}num_shared_fcs': 1}
RFCN = dict(base='rfcn_shufflenetv2', type='RFCN')


@pytest.mark.parametrize(
    'fitting, changes, named',
    [
        ({}, {f'{HEAD}in_channels': 12}, 'expected 588 .* got 490'),
        ({}, {'neck.out_channels': 98}, 'expected 490 .* got 98'),
        ({}, {LARGER_BINS: 9}, r'roi_feat_size: expected \(9, 9\)'),
        ({}, {'rpn_head.in_channels': 96}, 'in_channels: expected 232'),
        (MMDETS, {f'{HEAD}in_channels': 12}, 'expected 588 .* got 490'),
        (RFCN, {f'{HEAD}num_classes': 3}, 'expected 392 .* num_classes'),
    ],
)
def test_parts_that_do_not_fit_are_rejected(build, fitting, changes, named):
    build(**fitting)
    with pytest.raises(ValueError, match=named):
        build(**fitting, **changes)
