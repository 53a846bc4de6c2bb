"""ThunderNet: its cost beside the published one, its parts, that it trains."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.flop_counter import FlopCounterMode

# depth: million multiply-adds of backbone at 224x224 and detector at 320x320
# as published (Tables 1 and 6), and as counted from the published channels.
COSTS = {
    49: ((49, 262), (50.7, 260.9)),
    146: ((146, 473), (160.6, 499.7)),
    535: ((535, 1300), (534.4, 1296.6)),
}


@pytest.fixture
def build(root):
    def make(depth, **options):
        path = f'configs/light/thundernet_snet{depth}_320.py'
        cfg = Config.fromfile(root / path)
        cfg.merge_from_dict({f'model.{k}': v for k, v in options.items()})
        init_default_scope('mmdet')
        torch.manual_seed(0)
        return MODELS.build(cfg.model).eval()

    return make


def million_multiply_adds(run) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2e6


@pytest.mark.parametrize('depth', COSTS)
def test_cost_is_near_the_published_one(build, depth):
    model = build(depth)

    def detect():
        maps = model.extract_feat(torch.randn(1, 3, 320, 320))
        model.rpn_head(maps)
        corner = torch.rand(200, 2) * 200
        rois = torch.cat([torch.zeros(200, 1), corner, corner + 60], 1)
        pooled = model.roi_head.bbox_roi_extractor(maps[:1], rois)
        assert pooled.shape == (200, 5, 7, 7)
        model.roi_head.bbox_head(pooled)

    published, counted = COSTS[depth]
    image = torch.randn(1, 3, 224, 224)
    backbone = million_multiply_adds(lambda: model.backbone(image))
    detector = million_multiply_adds(detect)
    assert (backbone, detector) == pytest.approx(counted, rel=1e-3)
    assert (backbone, detector) == pytest.approx(published, rel=0.11)
