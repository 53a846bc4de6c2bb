"""The runner and hooks behind ``tools/``."""

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
