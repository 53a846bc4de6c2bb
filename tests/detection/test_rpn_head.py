import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from mmdet_shufflenetv2.detection.rpn_head import RPNHead, first_kept

TEST_CFG = ConfigDict(
    nms_pre=100,
    max_per_img=20,
    nms=dict(type='nms', iou_threshold=0.7),
    min_bbox_size=0,
)


def rpn_config(head_type, **kwargs):
    return dict(
        type=head_type,
        in_channels=8,
        feat_channels=8,
        anchor_generator=dict(
            type='AnchorGenerator',
            scales=[2, 4],
            ratios=[0.5, 1.0, 2.0],
            strides=[16],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_bbox=dict(type='L1Loss'),
        test_cfg=TEST_CFG,
        **kwargs,
    )


@pytest.fixture
def heads():
    """Our head and mmdet's with the same weights."""
    torch.manual_seed(0)
    ours = MODELS.build(rpn_config('LightHeadRPNHead'))
    stock = MODELS.build(rpn_config('RPNHead'))
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    stock.load_state_dict(ours.state_dict())
    return ours, stock


METAS = [
    dict(img_shape=(128, 160), scale_factor=(0.5, 0.25)),
    dict(img_shape=(100, 90), scale_factor=(2.0, 2.0)),
]


@pytest.mark.parametrize('rescale', [False, True])
@pytest.mark.parametrize('nms_pre', [-1, 30, 10_000])
@pytest.mark.parametrize('max_per_img', [5, 40, 2000])
def test_proposals_equal_mmdets(heads, rescale, nms_pre, max_per_img):
    ours, stock = heads
    x = (torch.randn(2, 8, 8, 10),)
    cfg = ConfigDict(TEST_CFG, nms_pre=nms_pre, max_per_img=max_per_img)
    arguments = dict(batch_img_metas=METAS, cfg=cfg, rescale=rescale)
    expected = RPNHead.predict_by_feat(stock, *stock(x), **arguments)
    for result, wanted in zip(
        ours.predict_by_feat(*ours(x), **arguments), expected, strict=True
    ):
        torch.testing.assert_close(result.scores, wanted.scores)
        torch.testing.assert_close(result.bboxes, wanted.bboxes)
        assert result.labels.dtype == torch.long
        assert len(result.labels) == len(result.bboxes) > 0


@pytest.mark.parametrize('max_num', [1, 7, 1000])
def test_first_kept_are_the_first_of_all(max_num):
    from torchvision.ops import nms

    corner = torch.rand(500, 2) * 50
    boxes = torch.cat([corner, corner + 5 + torch.rand(500, 2) * 30], 1)
    scores = torch.rand(500).sort(descending=True).values
    expected = nms(boxes, scores, 0.5)[:max_num]
    assert torch.equal(first_kept(boxes, scores, 0.5, max_num), expected)
