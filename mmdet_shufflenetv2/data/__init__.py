"""COCO, YOLO, VOC and CSV data as one table of boxes; synthetic pictures."""

from ..compat import needs_mmdet  # noqa: F401
from .dataset import BoxDataset, BoxMetric, LoadImageStrict, use_strict_loader
from .folders import Splits, find_data
from .reading import read_boxes, report
from .table import BoxTable, DatasetError, Source

__all__ = [
    'BoxDataset',
    'BoxMetric',
    'BoxTable',
    'DatasetError',
    'LoadImageStrict',
    'Source',
    'Splits',
    'find_data',
    'read_boxes',
    'report',
    'use_strict_loader',
]
