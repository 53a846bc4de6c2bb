"""How much of the image each level of a network sees.

The theoretical receptive field follows from kernels, strides and dilations
along the longest path. The effective one is what matters in fact: by far the
most of a position's gradient comes from a small part in the middle (Luo et
al., arXiv 1701.04128).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from textwrap import shorten

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..benchmark.memory import is_out_of_memory
from .operations import tensors_of

# A pixel counts where its gradient is at least this share of the largest:
# one minus what lies within two standard deviations, as in the paper.
THRESHOLD = 1 - 0.9545
# Letters of PyTorch's own message about a gradient that fails.
_MESSAGE = 120
Pair = tuple[float, float]
Features = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Field:
    """What one position of a map depends on.

    Attributes:
        size: pixels of the image, height and width.
        stride: pixels between neighbouring positions.
        whole_by: the operation through which a position depends on the
            whole image besides, such as the mean of a squeeze; None if
            there is none.
    """

    size: Pair = (1, 1)
    stride: Pair = (1, 1)
    whole_by: str | None = None

    def through(self, reach: Pair, step: Pair) -> 'Field':
        """The field after a window.

        Args:
            reach: positions from the window's first to its last.
            step: positions between neighbouring windows.
        """
        sides = zip(self.size, self.stride, reach, strict=True)
        return replace(
            self,
            size=tuple(size + stride * far for size, stride, far in sides),
            stride=tuple(
                a * b for a, b in zip(self.stride, step, strict=True)
            ),
        )


def _pair(value, default=None) -> Pair:
    value = [value] if isinstance(value, int | float) else list(value)
    if not value:
        return _pair(default)
    return tuple((value * 2)[:2])


def _window(kernel: Pair, step: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    sides = zip(kernel, dilation, strict=True)
    return tuple((k - 1) * d for k, d in sides), step


def _convolution(args, out):
    weight, step, dilation = args[1], _pair(args[3]), _pair(args[5])
    kernel = weight.shape[2:]
    if len(kernel) != 2:
        return None
    if args[6]:
        # As many taps of the kernel as meet one output position.
        sides = list(zip(kernel, step, strict=True))
        return (
            tuple(math.ceil(k / s) - 1 for k, s in sides),
            tuple(1 / s for _, s in sides),
        )
    return _window(kernel, step, dilation)


def _pooling(args, out):
    kernel = _pair(args[1])
    step = _pair(args[2] if len(args) > 2 else (), kernel)
    is_max = len(args) > 4 and not isinstance(args[4], bool)
    return _window(kernel, step, _pair(args[4]) if is_max else (1, 1))


def _resizing(taps: int) -> Callable:
    """Of an interpolation, or pooling to a size, by both maps' sizes."""

    def window(args, out):
        before, after = args[0].shape[-2:], out[0].shape[-2:]
        step = tuple(b / a for b, a in zip(before, after, strict=True))
        if taps:
            return (taps - 1, taps - 1), step
        return tuple(math.ceil(s) - 1 for s in step), step

    return window


_WINDOWS: dict[str, Callable] = {
    'aten::convolution': _convolution,
    'aten::max_pool2d_with_indices': _pooling,
    'aten::avg_pool2d': _pooling,
    'aten::_adaptive_avg_pool2d': _resizing(0),
    'aten::adaptive_max_pool2d': _resizing(0),
    'aten::upsample_nearest2d': _resizing(1),
    'aten::upsample_bilinear2d': _resizing(2),
    'aten::upsample_bicubic2d': _resizing(4),
}
_WHOLE = (
    *('aten::mean', 'aten::sum', 'aten::native_group_norm', 'aten::amax'),
    *('torchvision::deform_conv2d', 'aten::grid_sampler_2d'),
)
_PRODUCTS = ('aten::bmm', 'aten::mm', 'aten::baddbmm')


class _FieldMode(TorchDispatchMode):
    """Carries fields along with the tensors, by their storage."""

    def __init__(self, image: Tensor):
        super().__init__()
        self._fields = {image.untyped_storage().data_ptr(): Field()}

    def of(self, tensor: Tensor) -> Field | None:
        return self._fields.get(tensor.untyped_storage().data_ptr())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        inputs = tensors_of((args, kwargs))
        fields = [f for f in map(self.of, inputs) if f is not None]
        out = func(*args, **(kwargs or {}))
        outputs = tensors_of(out)
        field = self._after(func._schema.name, args, outputs, fields)
        for tensor in outputs:
            self._fields[tensor.untyped_storage().data_ptr()] = field
        return out

    def _after(self, name, args, outputs, fields) -> Field | None:
        if not fields:
            return None
        joined = Field(
            tuple(max(f.size[i] for f in fields) for i in range(2)),
            tuple(min(f.stride[i] for f in fields) for i in range(2)),
            next((f.whole_by for f in fields if f.whole_by), None),
        )
        window = None
        if name in _WINDOWS:
            window = _WINDOWS[name](args, outputs)
        is_whole = (
            (name in _WHOLE and (name != 'aten::mean' or args[0].dim() > 2))
            or (name in _PRODUCTS and len(fields) > 1)
            or 'dot_product' in name
        )
        if name.endswith('adaptive_avg_pool2d') and outputs[0].shape[-1] == 1:
            is_whole, window = True, None
        if is_whole and not joined.whole_by:
            joined = replace(joined, whole_by=name.partition('::')[2])
        return joined.through(*window) if window else joined


def theoretical_fields(
    features: Features, image: Tensor
) -> dict[str, Field | None]:
    """The receptive field of each level.

    Args:
        features: gives the levels by name.
        image: (N, 3, H, W); its values do not matter.

    Returns:
        for each level the field; None if it does not depend on the image.
    """
    mode = _FieldMode(image)
    with torch.no_grad(), mode:
        levels = features(image)
    return {name: mode.of(level) for name, level in levels.items()}


def gradient_maps(
    features: Features,
    like: Tensor,
    samples: int = 4,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, Tensor]:
    """Where the gradient of each level's middle position comes from.

    Args:
        features: gives the levels by name.
        like: an image (1, 3, H, W); its values do not matter.
        samples: images to average over; each has its own random signs of
            the channels' gradients.
        progress: called after each image.

    Returns:
        for each map among the levels (H, W), the largest value is 1.
    """
    generator = torch.Generator().manual_seed(0)
    sums: dict[str, Tensor] = {}
    for _ in range(samples):
        image = torch.randn(like.shape, generator=generator).to(like)
        image.requires_grad_()
        with torch.enable_grad():
            levels = {
                name: level
                for name, level in features(image).items()
                if level.dim() == 4 and level.requires_grad
            }
            for name, level in levels.items():
                middle = level[0, :, level.shape[2] // 2, level.shape[3] // 2]
                signs = torch.randint(2, middle.shape, generator=generator)
                (gradient,) = torch.autograd.grad(
                    middle, image, signs.to(middle) * 2 - 1, retain_graph=True
                )
                strength = gradient[0].abs().sum(0)
                sums[name] = sums.get(name, 0) + strength.float().cpu()
        progress()
    return {name: total / total.max() for name, total in sums.items()}


def gradients_or_problem(
    features: Features,
    like: Tensor,
    samples: int,
    progress: Callable[[], object] = lambda: None,
) -> tuple[dict[str, Tensor], str | None]:
    """`gradient_maps`, or none and the reason why they cannot be had.

    No samples ask for none, which needs no reason.
    """
    if not samples:
        return {}, None
    try:
        return gradient_maps(features, like, samples, progress), None
    except (RuntimeError, MemoryError) as error:
        # Networks need not have a gradient to be timed.
        reason = 'its gradient cannot be computed: '
        if is_out_of_memory(error):
            reason = 'its gradient does not fit in memory: '
        first = str(error).partition('\n')[0].partition(' Hint: ')[0]
        return {}, reason + shorten(first, _MESSAGE)


def effective_size(gradients: Tensor) -> float:
    """The side of a square as large as the area that matters.

    Args:
        gradients: (H, W), the largest value is 1.

    Returns:
        pixels.
    """
    return math.sqrt((gradients >= THRESHOLD).sum().item())
