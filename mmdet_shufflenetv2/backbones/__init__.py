"""Backbones registered in MMDetection's registry."""

from ..compat import needs_mmdet  # noqa: F401
from .densenet import DenseNet
from .igcv2 import IGCV2
from .mobilenet_v1 import MobileNetV1
from .mobilenet_v2 import StagedMobileNetV2
from .pytorchcv_networks import PNASNet, PytorchcvBackbone
from .shufflenet_v1 import ShuffleNetV1
from .shufflenet_v2 import ShuffleNetV2
from .snet import SNet
from .xception import Xception

__all__ = [
    'IGCV2',
    'DenseNet',
    'MobileNetV1',
    'PNASNet',
    'PytorchcvBackbone',
    'SNet',
    'ShuffleNetV1',
    'ShuffleNetV2',
    'StagedMobileNetV2',
    'Xception',
]
