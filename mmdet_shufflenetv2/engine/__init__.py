"""The runner and hooks behind ``tools/``."""

from .hooks import CurvesHook, ThroughputHook
from .runner import CheckedRunner

__all__ = ['CheckedRunner', 'CurvesHook', 'ThroughputHook']
