"""Light-Head R-CNN on mmdet's two-stage detector."""

from .large_separable_conv import LargeSeparableConv, LightHeadNeck
from .light_head import (
    LightHeadBBoxHead,
    LightHeadRPNHead,
    PSRoIExtractor,
)

__all__ = [
    'LargeSeparableConv',
    'LightHeadBBoxHead',
    'LightHeadNeck',
    'LightHeadRPNHead',
    'PSRoIExtractor',
]
