"""Backbones registered in MMDetection's registry."""

from .mobilenet_v1 import MobileNetV1
from .mobilenet_v2 import StagedMobileNetV2
from .shufflenet_v1 import ShuffleNetV1
from .shufflenet_v2 import ShuffleNetV2
from .xception import Xception

__all__ = [
    'MobileNetV1',
    'ShuffleNetV1',
    'ShuffleNetV2',
    'StagedMobileNetV2',
    'Xception',
]
