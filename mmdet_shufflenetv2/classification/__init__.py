"""Classification pretraining on mmpretrain, which this folder alone needs.

``custom_imports`` of the configs in ``configs/pretrain`` import it.
"""

from .classifier import PublishedClassifier
from .error_metric import ClassificationError

__all__ = ['ClassificationError', 'PublishedClassifier']
