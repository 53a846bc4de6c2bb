import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_shufflenetv2.engine.run_data import set_classes
from mmdet_shufflenetv2.ops import ps_roi_pool


def neck(**options):
    return MODELS.build(
        {
            'type': 'RFCNNeck',
            'in_channels': (6, 8),
            'num_classes': 3,
            'bins': 3,
            **options,
        }
    )


def bbox_head(**options):
    return MODELS.build({'type': 'RFCNBBoxHead', 'num_classes': 3, **options})


FEATURES = torch.rand(2, 6, 8, 8), torch.rand(2, 8, 4, 4)


@pytest.mark.parametrize(
    'other', [dict(num_classes=5), dict(reg_class_agnostic=False)]
)
def test_head_of_other_values_than_the_necks_is_refused(other):
    maps, _ = neck()(FEATURES)
    rois = torch.tensor([[0, 0.0, 0, 60, 60]])
    pooled = ps_roi_pool(maps, rois, 3, 1 / 32)
    bbox_head()(pooled)
    with pytest.raises(ValueError, match=r'got 8; .*must be equal in neck'):
        bbox_head(**other)(pooled)


@torch.no_grad()
def test_votes_equal_those_of_the_two_maps_pooled_apart():
    own = neck()
    rois = torch.tensor([[0, 0.0, 0, 60, 60], [1, 20, 5, 90, 120]])
    maps, _ = own(FEATURES)
    scores, boxes = bbox_head()(ps_roi_pool(maps, rois, 3, 1 / 32))
    x = own.reduce(FEATURES[1])
    for got, conv in (scores, own.score_conv), (boxes, own.box_conv):
        pooled = ps_roi_pool(conv(x), rois, 3, 1 / 32)
        for roi in range(len(rois)):
            for value in range(got.shape[1]):
                votes = [float(v) for v in pooled[roi, value].flatten()]
                assert float(got[roi, value]) == pytest.approx(
                    sum(votes) / 9, abs=1e-5
                )


def test_number_of_classes_reaches_neck_and_head(root):
    cfg = Config.fromfile(root / 'configs/rfcn_shufflenetv2.py')
    set_classes(cfg, ('cat', 'dog'))
    model = MODELS.build(cfg.model)
    assert model.neck.score_conv.out_channels == 49 * 3
    assert model.roi_head.bbox_head.num_classes == 2
