"""A stand-in for ``mmcv._ext``, the compiled part of mmcv.

The ``mmcv-lite`` wheel holds ``mmcv/ops/*.py`` but not the compiled module
that they call, and mmdet imports those files. Where the compiled module is
absent or does not load, this table answers in its place.
"""

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType

import torch

from .kernels import (
    attention,
    boxes,
    carafe,
    convolutions,
    focal_loss,
    not_offered,
    rois,
    sync_bn,
)
from .stand_ins import StandInFinder

NAME = 'mmcv._ext'

# What the models and configs of mmdet 3.3 use.
KERNELS: dict[str, Callable] = {
    kernel.__name__: kernel
    for kernel in (
        attention.ms_deform_attn_backward,
        attention.ms_deform_attn_forward,
        boxes.nms,
        boxes.nms_match,
        boxes.softnms,
        carafe.carafe_backward,
        carafe.carafe_forward,
        convolutions.deform_conv_backward_input,
        convolutions.deform_conv_backward_parameters,
        convolutions.deform_conv_forward,
        convolutions.masked_col2im_forward,
        convolutions.masked_im2col_forward,
        convolutions.modulated_deform_conv_backward,
        convolutions.modulated_deform_conv_forward,
        focal_loss.sigmoid_focal_loss_backward,
        focal_loss.sigmoid_focal_loss_forward,
        rois.deform_roi_pool_backward,
        rois.deform_roi_pool_forward,
        rois.roi_align_backward,
        rois.roi_align_forward,
        sync_bn.sync_bn_backward_data,
        sync_bn.sync_bn_backward_param,
        sync_bn.sync_bn_forward_mean,
        sync_bn.sync_bn_forward_output,
        sync_bn.sync_bn_forward_var,
    )
}
# mmdet's and mmengine's environment reports print these.
KERNELS['get_compiler_version'] = lambda: 'none (torchvision stand-in)'
KERNELS['get_compiling_cuda_version'] = lambda: str(torch.version.cuda)


def _answer(name: str) -> Callable:
    """``getattr`` of the stand-in for names outside the table.

    mmcv asserts at import that the module has every op, so the refusal has
    to wait for the call.
    """
    if name.startswith('_'):
        raise AttributeError(f'module {NAME!r} has no attribute {name!r}')

    def refuse(*args, **kwargs):
        raise not_offered(f'mmcv op {name!r}')

    return refuse


def fill(module: ModuleType) -> None:
    """Make ``module`` the stand-in."""
    _require_torchvision()
    vars(module).update(KERNELS, __getattr__=_answer)


def _require_torchvision() -> None:
    """Raise a clear ImportError unless torchvision's compiled ops work."""
    advice = (
        'Install a matching pair, both from PyPI: '
        'pip install --upgrade --force-reinstall torch torchvision'
    )
    try:
        import torchvision
        from torchvision.extension import _has_ops
    except ModuleNotFoundError as error:
        raise ImportError(
            f'torchvision is needed for the stand-in of {NAME}: {error}. '
            f'{advice}'
        ) from error
    except RuntimeError as error:
        raise ImportError(
            f'torchvision does not fit torch {torch.__version__}: {error}. '
            f'{advice}'
        ) from error
    if not _has_ops():
        raise ImportError(
            f'the compiled ops of torchvision {torchvision.__version__} do '
            f'not load with torch {torch.__version__}. {advice}'
        )


def ensure_mmcv_ops(finder: StandInFinder) -> None:
    """Make ``mmcv._ext`` importable, compiled or not.

    Args:
        finder: Offers the stand-in where the module is absent. For one that
            is present but does not load, the stand-in is put in its place
            here, with a warning that tells why.
    """
    if find_spec(NAME).loader is finder:
        import_module(NAME)
        _complete_early_import()
        return
    try:
        import_module(NAME)
    except ImportError as error:
        warnings.warn(
            f'the compiled {NAME} is present but does not load ({error}); '
            'torchvision answers in its place. Compile mmcv again for this '
            'torch, or install mmcv-lite, to get rid of this warning',
            stacklevel=2,
        )
        module = module_from_spec(finder.find_spec(NAME))
        finder.exec_module(module)
        sys.modules[NAME] = module
        _complete_early_import()


def _complete_early_import() -> None:
    """Give mmcv.cnn what it did without if it was imported before.

    As by mmpretrain; mmdet then fails to import it from there.
    """
    early = sys.modules.get('mmcv.cnn.bricks.transformer')
    if early and not hasattr(early, 'MultiScaleDeformableAttention'):
        ops = import_module('mmcv.ops.multi_scale_deform_attn')
        early.MultiScaleDeformableAttention = ops.MultiScaleDeformableAttention
