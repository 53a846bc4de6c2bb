"""One rule of precision for all stand-in kernels."""

from torch import Tensor, float32, float64


def full_precision(tensor: Tensor) -> Tensor:
    """``tensor`` in float32 unless it is float32 or float64 already.

    torchvision's CPU kernels take neither half nor bfloat16, its CUDA
    kernels no bfloat16, and its own autocast rules compute all of these in
    float32; so does the stand-in.
    """
    return tensor if tensor.dtype in (float32, float64) else tensor.float()
