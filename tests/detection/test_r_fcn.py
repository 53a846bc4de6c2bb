"""R-FCN: two maps in one tensor, and bins that vote."""

import pytest
import torch
from mmdet.registry import MODELS

from mmdet_shufflenetv2.ops import ps_roi_pool


def neck():
    return MODELS.build(
        dict(type='RFCNNeck', in_channels=(6, 8), num_classes=3, bins=3)
    )


def bbox_head(**options):
    return MODELS.build({'type': 'RFCNBBoxHead', 'num_classes': 3, **options})


FEATURES = torch.rand(2, 6, 8, 8), torch.rand(2, 8, 4, 4)


@torch.no_grad()
def test_votes_equal_those_of_two_separately_pooled_maps():
    own = neck()
    rois = torch.tensor([[0, 0.0, 0, 60, 60], [1, 20, 5, 90, 120]])
    maps, _ = own(FEATURES)
    pooled = ps_roi_pool(maps, rois, 3, 1 / 32)
    votes = bbox_head()(pooled)
    with pytest.raises(ValueError, match=r'got 8; .*alike in neck'):
        bbox_head(num_classes=5)(pooled)
    x = own.reduce(FEATURES[1])
    for got, conv in zip(votes, (own.score_conv, own.box_conv), strict=True):
        pooled = ps_roi_pool(conv(x), rois, 3, 1 / 32)
        torch.testing.assert_close(got, pooled.sum((2, 3)) / 9)
