"""Each point on which Light-Head implementations differ is a switch.

Every test turns one switch of the main config and sees what it changes.
"""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

MAPS = dict(stage3=(1, 96, 4, 6), stage4=(1, 192, 2, 3), conv5=(1, 1024, 2, 3))


@pytest.fixture
def build(root):
    """Build the 0.5x detector with some values of its config changed."""

    def make(**options):
        cfg = Config.fromfile(root / 'configs/lighthead_shufflenetv2_x0_5.py')
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


def test_default_is_stage3_for_the_rpn_and_conv5_for_the_thin_map(build):
    model = build()
    assert maps(model) == ((1, 490, 2, 3), (1, 15, 4, 6))
    assert model.neck.in_channels == (96, 1024)


def test_stage4_dilated_to_stride_16(build):
    model = build(
        **{
            'backbone.strides': (2, 2, 1),
            'backbone.dilations': (1, 1, 2),
            'roi_head.bbox_roi_extractor.featmap_strides': [16],
        }
    )
    assert maps(model)[0] == (1, 490, 4, 6)
    layer = model.roi_head.bbox_roi_extractor.roi_layers[0]
    assert layer.spatial_scale == 1 / 16


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


def test_conv5_left_out(build):
    model = build(
        **{'backbone.out_indices': (1, 2), 'neck.in_channels': (96, 192)}
    )
    assert maps(model)[0] == (1, 490, 2, 3)
    assert not hasattr(model.backbone, 'conv5')
    assert model.neck.thin_conv.vertical_first.conv1.in_channels == 192


def test_relu_after_every_convolution(build):
    plain, each = build(), build(**{'neck.act_each': True})
    each.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert not torch.allclose(
            plain.extract_feat(x)[0], each.extract_feat(x)[0]
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


def test_class_agnostic_boxes(build):
    model = build(**{'roi_head.bbox_head.reg_class_agnostic': True})
    assert model.roi_head.bbox_head.fc_reg.out_features == 4
    assert build().roi_head.bbox_head.fc_reg.out_features == 4 * 80


def test_hard_examples_see_every_proposal(build):
    model = build(
        **{
            'roi_head.bbox_head.num_hard': 256,
            'train_cfg.rcnn.sampler': dict(
                _delete_=True, type='PseudoSampler'
            ),
        }
    )
    assert model.roi_head.bbox_head.num_hard == 256
    sampler = type(model.roi_head.bbox_sampler).__name__
    assert sampler == 'PseudoSampler'
    assert build().roi_head.bbox_head.num_hard is None


def test_lower_nms_threshold_leaves_fewer_boxes(build):
    counts = {}
    for threshold in 0.5, 0.05:
        model = build(
            **{
                'test_cfg.rcnn.nms.iou_threshold': threshold,
                'test_cfg.rcnn.score_thr': 0.0,
                'test_cfg.rcnn.max_per_img': -1,
                'test_cfg.rpn.max_per_img': 30,
            }
        )
        image = torch.zeros(3, 64, 96, dtype=torch.uint8)
        from mmdet.structures import DetDataSample

        sample = DetDataSample(
            metainfo=dict(
                img_shape=(64, 96),
                ori_shape=(64, 96),
                scale_factor=(1.0, 1.0),
            )
        )
        with torch.no_grad():
            result = model.test_step(
                dict(inputs=[image], data_samples=[sample])
            )
        counts[threshold] = len(result[0].pred_instances)
    assert 0 < counts[0.05] < counts[0.5]
