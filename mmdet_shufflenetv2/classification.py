"""Former name of `mmdet_shufflenetv2.engine.published_classifier`.

Configs that earlier runs have left in their folders import it.
"""

from .engine.published_classifier import (
    ClassificationError,
    PublishedClassifier,
)

__all__ = ['ClassificationError', 'PublishedClassifier']
