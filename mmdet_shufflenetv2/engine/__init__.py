"""The runner, and the hooks, metrics, schedules and loops of configs."""

from ..compat import needs_mmdet  # noqa: F401
from .evaluation import ProposalMetric
from .hooks import ClassListHook, CurvesHook, ThroughputHook
from .runner import CheckedRunner
from .schedule import OfRun, ResumableIterLoop

__all__ = [
    'CheckedRunner',
    'ClassListHook',
    'CurvesHook',
    'OfRun',
    'ProposalMetric',
    'ResumableIterLoop',
    'ThroughputHook',
]
