"""Light-Head R-CNN on mmdet's two-stage detector."""

from .large_separable_conv import LargeSeparableConv, LightHeadNeck
from .roi_head import LightHeadBBoxHead, PSRoIExtractor
from .rpn_head import LightHeadRPNHead

__all__ = [
    'LargeSeparableConv',
    'LightHeadBBoxHead',
    'LightHeadNeck',
    'LightHeadRPNHead',
    'PSRoIExtractor',
]
