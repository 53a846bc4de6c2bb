"""Faults of the hosts: those that end a run, and those our commands avoid.

Each is looked for before it is fixed, so that a release without it is left
alone.
"""

import functools
import sys
import warnings

from .stand_ins import EXT, ChangedModule, StandInFinder


def fix_crashes() -> None:
    """Fix what ends a run of mmdet 3.3 with an error, whatever the data."""
    _survive_transformers_5()
    from mmdet.evaluation.functional import ytviseval
    from mmdet.models.dense_heads import SSDHead
    from mmengine.registry import MODELS
    from torch.nn import SyncBatchNorm

    # Prediction asks every head for its loss_cls; this one trains without.
    if not hasattr(SSDHead, 'loss_cls'):
        SSDHead.loss_cls = None
    # YouTube-VIS evaluation wants what NumPy 1.24 dropped.
    if not hasattr(ytviseval.np, 'float'):
        ytviseval.np = ChangedModule(ytviseval.np, float=float)
    # mmcv's own is of compiled ops, and computes the same.
    if isinstance(sys.modules[EXT].__spec__.loader, StandInFinder):
        MODELS.register_module('MMSyncBN', force=True, module=SyncBatchNorm)


def _survive_transformers_5() -> None:
    """Let mmpretrain 1.2, and so mmdet, be imported beside transformers 5.

    mmdet's preprocessor of re-identification imports mmpretrain's models
    where they are installed. Their multi-modal part is built on functions
    that transformers 5 has dropped; without it the rest works.
    """
    try:
        from mmpretrain.utils import dependency
    except ImportError:
        return  # mmdet goes on without it
    if not dependency.WITH_MULTIMODAL:
        return  # transformers is not installed
    try:
        from transformers.modeling_utils import (  # noqa: F401
            PreTrainedModel,
            apply_chunking_to_forward,
        )
    except ImportError:
        dependency.WITH_MULTIMODAL = False


def keep_thin_images() -> None:
    """Let every image keep a pixel in each direction when it is resized.

    mmcv rounds the short side of a long image to no pixel at all, and OpenCV
    then stops the run with an assertion that names no file.
    """
    from mmcv.image import geometric

    scale_size = geometric._scale_size
    if hasattr(scale_size, '__wrapped__'):
        return

    @functools.wraps(scale_size)
    def at_least_one(*args, **kwargs) -> tuple[int, int]:
        width, height = scale_size(*args, **kwargs)
        return max(1, width), max(1, height)

    geometric._scale_size = at_least_one


def hide_pkg_resources_warning() -> None:
    """Keep a deprecation from users, who can do nothing about it.

    mmengine reloads the module each time it asks for it, so setuptools 67.5
    to 81 would warn for every ``_base_ = 'mmdet::...'``.
    """
    warnings.filterwarnings(
        'ignore', 'pkg_resources is deprecated as an API', UserWarning
    )
