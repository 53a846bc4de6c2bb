"""The runner and hooks behind ``tools/``."""

from ..compat import needs_mmdet  # noqa: F401
from .hooks import CurvesHook, ThroughputHook
from .iterations import EndlessSampler, ResumableIterLoop
from .pictures import PicturesHook
from .runner import CheckedRunner

__all__ = [
    'CheckedRunner',
    'CurvesHook',
    'EndlessSampler',
    'PicturesHook',
    'ResumableIterLoop',
    'ThroughputHook',
]
