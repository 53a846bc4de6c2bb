"""Light-Head R-CNN and R-FCN on mmdet's two-stage detector."""

from .detector import LightHeadRCNN
from .large_separable_conv import LargeSeparableConv, LightHeadNeck
from .r_fcn import RFCNBBoxHead, RFCNNeck
from .roi_head import LightHeadBBoxHead, PSRoIExtractor
from .rpn_head import LightHeadRPNHead

__all__ = [
    'LargeSeparableConv',
    'LightHeadBBoxHead',
    'LightHeadNeck',
    'LightHeadRCNN',
    'LightHeadRPNHead',
    'PSRoIExtractor',
    'RFCNBBoxHead',
    'RFCNNeck',
]
