"""What ``mmcv._ext`` computes, through torch and torchvision.

Every function has the signature with which ``mmcv/ops/*.py`` calls the
compiled one: tensors first, most results written into buffers that the caller
made, settings as keywords. Here is what they share.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, float32, float64


def full_precision(tensor: Tensor) -> Tensor:
    """``tensor`` in float32 unless it is float32 or float64 already.

    torchvision's CPU kernels take neither half nor bfloat16, its CUDA
    kernels no bfloat16, and its own autocast rules compute all of these in
    float32; so does the stand-in.
    """
    return tensor if tensor.dtype in (float32, float64) else tensor.float()


def differentiate(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    grad_output: Tensor,
    buffers: Sequence[Tensor],
) -> None:
    """Gradients of ``function`` into ``buffers``, computing it once more."""
    leaves = [full_precision(x).detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        output = function(*leaves)
    grads = torch.autograd.grad(
        output, leaves, full_precision(grad_output), allow_unused=True
    )
    for buffer, grad in zip(buffers, grads, strict=True):
        if grad is not None:
            buffer.copy_(grad)


def not_offered(what: str) -> NotImplementedError:
    """The error for what the stand-in lacks."""
    return NotImplementedError(
        f'{what} needs mmcv._ext, which is not installed, and its stand-in '
        'does not offer it. To use it, install mmcv with compiled ops '
        "instead of 'mmcv-lite': pip uninstall mmcv-lite; pip install "
        '--no-build-isolation "mmcv>=2.0.0,<2.2.0" (compiles for about 20 '
        'minutes)'
    )
