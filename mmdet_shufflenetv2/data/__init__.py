"""Data: COCO-format folders, their checks, and a drawn data set."""

from ..compat import needs_mmdet  # noqa: F401
from .checks import CheckReport, DatasetError, check_coco_file
from .custom import CocoSplits, find_coco_splits
from .loading import LoadImageStrict

__all__ = [
    'CheckReport',
    'CocoSplits',
    'DatasetError',
    'LoadImageStrict',
    'check_coco_file',
    'find_coco_splits',
]
