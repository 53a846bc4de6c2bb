"""The thin map, and proposals that equal mmdet's."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from torch import nn

from mmdet_shufflenetv2.detection import LargeSeparableConv
from mmdet_shufflenetv2.detection.rpn_head import RPNHead


def test_sum_of_branches_is_a_plain_large_convolution():
    """Two separable branches equal one k x k convolution, before the ReLU."""
    layer = LargeSeparableConv(3, 4, mid_channels=2, kernel_size=5).double()
    x = torch.randn(2, 3, 9, 8, dtype=torch.double)
    kernel, bias = 0, 0
    for branch in layer.vertical_first, layer.horizontal_first:
        first, second = branch.conv1, branch.conv2
        # (out, mid, ., .) x (mid, in, ., .) -> (out, in, k, k)
        kernel = kernel + torch.einsum(
            'omab,micd->oiacbd', second.weight, first.weight
        ).reshape(4, 3, 5, 5)
        bias = bias + second.bias
        # Leave out the border, where the second convolution pads zeros.
        nn.init.zeros_(first.bias)
    expected = nn.functional.conv2d(x, kernel, bias, padding=2).relu()
    torch.testing.assert_close(layer(x), expected)


def test_act_each_activates_after_every_convolution():
    layer = LargeSeparableConv(3, 4, 2, kernel_size=3, act_each=True)
    x = torch.randn(1, 3, 6, 6)
    expected = 0
    for branch in layer.vertical_first, layer.horizontal_first:
        expected += branch.conv2(branch.conv1(x).relu()).relu()
    torch.testing.assert_close(layer(x), expected)


def build_neck(**options):
    neck = dict(type='LightHeadNeck', in_channels=(8, 16), out_channels=98)
    return MODELS.build(neck | options)


@pytest.mark.parametrize(
    'options, kind',
    [
        (dict(norm=True), nn.BatchNorm2d),
        (dict(norm_cfg=dict(type='SyncBN')), nn.SyncBatchNorm),
        (dict(norm_cfg=dict(type='GN', num_groups=7)), nn.GroupNorm),
    ],
)
def test_each_branch_has_the_configured_norm(options, kind):
    conv = build_neck(**options).thin_conv
    for branch in conv.vertical_first, conv.horizontal_first:
        assert isinstance(branch.norm, kind)
        assert branch.conv2.bias is None


def test_the_level_of_the_rpn_is_chosen_by_index():
    neck = build_neck(rpn_level=1)
    stage3, conv5 = torch.randn(2, 8, 12, 10), torch.randn(2, 16, 6, 5)
    thin, rpn = neck((stage3, conv5))
    assert thin.shape == (2, 98, 6, 5)
    assert rpn is conv5
    with pytest.raises(ValueError, match='expects 2 backbone levels'):
        neck((stage3,))
    with pytest.raises(ValueError, match=r'^rpn_level: expected .* got 2$'):
        build_neck(rpn_level=2)


TEST_CFG = dict(nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)


@pytest.fixture
def heads():
    """Our head and mmdet's with the same weights."""
    torch.manual_seed(0)
    anchors = dict(
        type='AnchorGenerator', scales=[2, 4], ratios=[0.5, 1], strides=[16]
    )
    ours, stock = (
        MODELS.build(
            dict(type=kind, in_channels=8, feat_channels=8)
            | dict(anchor_generator=anchors)
        )
        for kind in ('LightHeadRPNHead', 'RPNHead')
    )
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    stock.load_state_dict(ours.state_dict())
    return ours, stock


@pytest.mark.parametrize('rescale', [False, True])
@pytest.mark.parametrize('nms_pre', [-1, 30])
@pytest.mark.parametrize('max_per_img', [1, 5, 2000])
def test_proposals_equal_mmdets(heads, rescale, nms_pre, max_per_img):
    ours, stock = heads
    x = (torch.randn(2, 8, 8, 10),)
    metas = [
        dict(img_shape=(128, 160), scale_factor=(0.5, 0.25)),
        dict(img_shape=(100, 90), scale_factor=(2.0, 2.0)),
    ]
    cfg = ConfigDict(TEST_CFG, nms_pre=nms_pre, max_per_img=max_per_img)
    arguments = dict(batch_img_metas=metas, cfg=cfg, rescale=rescale)
    expected = RPNHead.predict_by_feat(stock, *stock(x), **arguments)
    for result, wanted in zip(
        ours.predict_by_feat(*ours(x), **arguments), expected, strict=True
    ):
        torch.testing.assert_close(result.scores, wanted.scores)
        torch.testing.assert_close(result.bboxes, wanted.bboxes)
        assert result.labels.dtype == torch.long
        assert len(result.labels) == len(result.bboxes) > 0
