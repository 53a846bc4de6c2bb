"""ThunderNet: its cost against the published one, and its neck."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_shufflenetv2.measure.flops import macs

# depth -> million multiply-adds of the backbone at 224x224 and the detector at
# 320x320: published (Tables 1 and 6), and counted from published channels.
COSTS = {
    49: ((49, 262), (50.7, 261.3)),
    146: ((146, 473), (160.6, 500.1)),
    535: ((535, 1300), (534.4, 1297.0)),
}


@pytest.fixture
def build(root):
    def make(depth):
        path = f'configs/light/thundernet_snet{depth}_320.py'
        return MODELS.build(Config.fromfile(root / path).model).eval()

    return make


@pytest.mark.parametrize('depth', COSTS)
def test_cost_is_near_the_published_one(build, depth):
    model = build(depth)
    corner = torch.rand(200, 2) * 200
    rois = torch.cat([torch.zeros(200, 1), corner, corner + 60], 1)

    def detect(image):
        maps = model.extract_feat(image)
        model.rpn_head(maps)
        pooled = model.roi_head.bbox_roi_extractor(maps[:1], rois)
        assert pooled.shape == (200, 5, 7, 7)
        model.roi_head.bbox_head(pooled)

    costs = [
        macs(function, torch.randn(1, 3, side, side)) / 1e6
        for function, side in ((model.backbone, 224), (detect, 320))
    ]
    published, counted = COSTS[depth]
    assert costs == pytest.approx(counted, rel=1e-3)
    assert costs == pytest.approx(published, rel=0.11)


@torch.no_grad()
def test_map_sums_three_contexts_weighted_by_attention(build):
    neck = build(49).neck
    c4, c5 = torch.randn(2, 120, 6, 8), torch.randn(2, 512, 3, 4)
    for layer in neck.context4, neck.context5, neck.context_global:
        layer.weight.normal_(0, 0.1)
    large = neck.context5(c5).repeat_interleave(2, 2).repeat_interleave(2, 3)
    everywhere = neck.context_global(c5.mean((2, 3), keepdim=True))
    context = neck.context4(c4) + large + everywhere
    weighed, rpn = neck((c4, c5))
    torch.testing.assert_close(
        weighed, context * neck.attention(rpn).sigmoid()
    )
