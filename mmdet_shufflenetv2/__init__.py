"""ShuffleNet V2 backbones and Light-Head R-CNN for MMDetection.

``import mmdet_shufflenetv2`` is all that is needed: it first closes the gaps
between MMDetection's official wheels and today's PyTorch, then registers
every module of this package. Where mmdet is not installed nothing is
registered, and the rooms that do without it can be imported: `analysis`,
`ops` and `deploy.runtime`. ``Detector`` runs a checkpoint or an exported file.
"""

import warnings
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

__version__ = '0.1.0'
ROOMS = ('backbones', 'data', 'detection', 'engine', 'ops')
__all__ = ['Detector', '__version__', *ROOMS]

if find_spec('mmdet'):
    from .compat import apply_patches

    # The order matters: mmdet's modules import mmcv's ops when they are
    # imported themselves.
    apply_patches()
    for _room in ROOMS:
        import_module(f'{__name__}.{_room}')
elif find_spec('mmengine'):
    # mmpretrain, say, has a ShuffleNetV2 of its own.
    warnings.warn(
        'mmdet is not installed: no backbone of mmdet_shufflenetv2 is '
        'registered',
        stacklevel=2,
    )


def __getattr__(name: str) -> ModuleType | type:
    if name in ROOMS:
        return import_module(f'{__name__}.{name}')
    if name == 'Detector':
        # Exported files run where there is no mmdet.
        room = 'detector' if find_spec('mmdet') else 'runtime'
        return import_module(f'{__name__}.deploy.{room}').Detector
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
