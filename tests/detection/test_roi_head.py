import pytest
import torch
from mmdet.registry import MODELS

from mmdet_shufflenetv2.ops import ps_roi_align, ps_roi_pool


def extractor(**layer):
    return MODELS.build(
        dict(
            type='PSRoIExtractor',
            roi_layer=dict(output_size=7, **layer),
            out_channels=10,
            featmap_strides=[32],
        )
    )


ROIS = torch.tensor([[0, 10.0, 20, 200, 180], [1, 0, 0, 90, 250]])


def test_extractor_pools_at_the_stride_of_its_map():
    thin = torch.rand(2, 490, 9, 9)
    layer = extractor(type='PSRoIAlign', sampling_ratio=2)
    expected = ps_roi_align(thin, ROIS, 7, 1 / 32, 2)
    torch.testing.assert_close(layer((thin,), ROIS), expected)
    pooled = extractor(type='PSRoIPool')((thin,), ROIS)
    torch.testing.assert_close(pooled, ps_roi_pool(thin, ROIS, 7, 1 / 32))
    assert not torch.allclose(expected, pooled)


def bbox_head(**kwargs):
    return MODELS.build(
        dict(
            type='LightHeadBBoxHead',
            in_channels=10,
            roi_feat_size=7,
            num_classes=3,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_cls=dict(type='CrossEntropyLoss'),
            loss_bbox=dict(type='L1Loss'),
            **kwargs,
        )
    )


@pytest.mark.parametrize('shape', [(5, 7, 7), (10, 3, 3)])
def test_maps_that_the_head_was_not_built_for_are_refused(shape):
    with pytest.raises(ValueError, match=r'bbox_head.in_channels .* neck'):
        bbox_head()(torch.rand(5, *shape))
