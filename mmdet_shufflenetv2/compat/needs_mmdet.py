"""Importing this module checks that MMDetection is installed.

Subpackages that need MMDetection import this first, so that the error says
what to install instead of which import failed.
"""

from importlib.util import find_spec

missing = [
    name
    for name in ('torch', 'mmengine', 'mmcv', 'mmdet')
    if find_spec(name) is None
]
if missing:
    raise ImportError(
        f'{", ".join(missing)} not installed: this package extends '
        'MMDetection. pip install torch torchvision mmdet==3.3.0 '
        'mmcv-lite==2.1.0 mmengine==0.10.7 "setuptools<81"'
    )
