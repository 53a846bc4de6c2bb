"""Fixes for bugs in mmdet, mmcv, mmengine and mmpretrain.

Each fix first checks for its bug, so that releases without it are unchanged.
"""

import functools
import os
import sys
import warnings

from .stand_ins import EXT, ChangedModule, StandInFinder


def fix_crashes() -> None:
    """Fix the errors that stop mmdet 3.3 whatever the data."""
    _survive_transformers_5()
    from mmdet.evaluation.functional import ytviseval
    from mmdet.models.dense_heads import SSDHead
    from mmengine.registry import MODELS
    from torch.nn import SyncBatchNorm

    # Prediction reads every head's loss_cls, and this one has none.
    if not hasattr(SSDHead, 'loss_cls'):
        SSDHead.loss_cls = None
    # YouTube-VIS evaluation uses np.float, which NumPy 1.24 dropped.
    if not hasattr(ytviseval.np, 'float'):
        ytviseval.np = ChangedModule(ytviseval.np, float=float)
    # mmcv's own SyncBN needs compiled ops; PyTorch's computes the same.
    if isinstance(sys.modules[EXT].__spec__.loader, StandInFinder):
        MODELS.register_module('MMSyncBN', force=True, module=SyncBatchNorm)


def _survive_transformers_5() -> None:
    """Let mmpretrain 1.2, and so mmdet, be imported beside transformers 5.

    mmdet's re-identification preprocessor imports mmpretrain's models if they
    are installed. Their multi-modal part uses functions that transformers 5
    dropped; disabling that part keeps the rest working.
    """
    try:
        from mmpretrain.utils import dependency
    except ImportError:
        return  # mmdet does not need mmpretrain
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
    """Resize every image to at least one pixel per side.

    mmcv rounds the short side of a very long image to 0, and OpenCV then
    stops the run with an assertion that does not name the file.
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
    """Hide a deprecation warning that users cannot act on.

    mmengine reloads the module on every use, so setuptools 67.5 to 81 would
    warn for every ``_base_ = 'mmdet::...'``, in child processes too.
    """
    message = 'pkg_resources is deprecated as an API'
    warnings.filterwarnings('ignore', message, UserWarning)
    os.environ.setdefault('PYTHONWARNINGS', f'ignore:{message}:UserWarning')
