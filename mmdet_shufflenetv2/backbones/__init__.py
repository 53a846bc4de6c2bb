"""Backbones registered in MMDetection's registry."""

from .densenet import DenseNet
from .pnasnet import PNASNet
from .pytorchcv_networks import PytorchcvBackbone
from .shufflenet_v2 import ShuffleNetV2

__all__ = ['DenseNet', 'PNASNet', 'PytorchcvBackbone', 'ShuffleNetV2']
