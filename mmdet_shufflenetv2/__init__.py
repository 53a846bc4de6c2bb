"""ShuffleNet V2 backbones and Light-Head R-CNN for MMDetection.

``import mmdet_shufflenetv2`` is all that is needed: it first closes the gaps
between MMDetection's official wheels and today's PyTorch, then registers
every module of this package.
"""

from .compat import close_gaps

# The order matters: mmdet's modules import mmcv's ops when they are imported.
close_gaps()

from . import backbones, data, detection, engine, ops  # noqa: E402

__version__ = '0.1.0'
__all__ = ['__version__', 'backbones', 'data', 'detection', 'engine', 'ops']
