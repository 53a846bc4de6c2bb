"""Light-Head R-CNN, R-FCN and ThunderNet on mmdet's two-stage detector."""

from ..compat import needs_mmdet  # noqa: F401
from .detector import LightHeadRCNN
from .hard_examples import LightHeadRoIHead
from .large_separable_conv import LargeSeparableConv, LightHeadNeck
from .r_fcn import RFCNBBoxHead, RFCNNeck
from .roi_head import LightHeadBBoxHead, PSRoIExtractor
from .rpn_head import LightHeadRPNHead
from .soft_voting import SoftVotingTTA
from .thundernet import ThunderNetNeck, ThunderNetRPNHead

__all__ = [
    'LargeSeparableConv',
    'LightHeadBBoxHead',
    'LightHeadNeck',
    'LightHeadRCNN',
    'LightHeadRPNHead',
    'LightHeadRoIHead',
    'PSRoIExtractor',
    'RFCNBBoxHead',
    'RFCNNeck',
    'SoftVotingTTA',
    'ThunderNetNeck',
    'ThunderNetRPNHead',
]
