"""Receptive fields of maps, and how windows over maps widen them.

This is the arithmetic of ordinary networks, where every position of a map
sees a rectangle of the same size: kernels, strides and dilations along the
widest path. N images, C channels, H x W pixels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

Pair = tuple[float, float]


@dataclass(frozen=True)
class Field:
    """What one position of a map depends on.

    Attributes:
        size: pixels of the image, height and width; None where it depends
            on the whole image only, or on what is not known.
        stride: pixels between neighbouring positions; None where they are
            not neighbours in the image.
        whole_by: the operation through which a position depends on the
            whole image, such as the mean of a squeeze; None if there is
            none.
        unknown: why it is not known what a position depends on; None if it
            is.
    """

    size: Pair | None = (1, 1)
    stride: Pair | None = (1, 1)
    whole_by: str | None = None
    unknown: str | None = None

    def through(self, reach: Pair, step: Pair) -> 'Field':
        """The field after a window.

        Args:
            reach: positions from the window's first to its last.
            step: positions between neighbouring windows.
        """
        if self.size is None or self.stride is None:
            return self
        sides = zip(self.size, self.stride, reach, strict=True)
        return replace(
            self,
            size=tuple(size + stride * far for size, stride, far in sides),
            stride=tuple(
                a * b for a, b in zip(self.stride, step, strict=True)
            ),
        )


def whole(by: str) -> Field:
    """The field of what depends on all of the image alike."""
    return Field(None, None, whole_by=by)


def joined(fields: Sequence[Field]) -> Field:
    """The field of what depends on several maps, one at least."""
    unknown = next((f.unknown for f in fields if f.unknown), None)
    sized = [f for f in fields if f.size is not None and not unknown]
    return Field(
        _sides(max, [f.size for f in sized]),
        _sides(min, [f.stride for f in sized]),
        next((f.whole_by for f in fields if f.whole_by), None),
        unknown,
    )


def _sides(choose: Callable, pairs: Sequence[Pair]) -> Pair | None:
    return tuple(map(choose, zip(*pairs, strict=True))) or None


def per_side(value: float | Sequence[float], count: int = 2) -> tuple:
    """One number for all sides, alone or in a list, or one for each."""
    values = [value] if isinstance(value, int | float) else list(value)
    return tuple((values * count)[:count])


def _window(kernel: Pair, step: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    sides = zip(kernel, dilation, strict=True)
    return tuple((k - 1) * d for k, d in sides), step


def _convolution(args: tuple, out: list[Tensor]) -> tuple[Pair, Pair] | None:
    weight, step, dilation = args[1], per_side(args[3]), per_side(args[5])
    kernel = weight.shape[2:]
    if len(kernel) != 2:
        return None
    if args[6]:
        # As many positions of the input as meet one of the output: taps are
        # `dilation` apart, and every s-th, in lowest terms, meets one.
        sides = [
            (math.ceil(k / (s // math.gcd(s, d))) - 1) * (d // math.gcd(s, d))
            for k, s, d in zip(kernel, step, dilation, strict=True)
        ]
        return tuple(sides), tuple(1 / s for s in step)
    return _window(kernel, step, dilation)


def _deformable(args: tuple, out: list[Tensor]) -> tuple[Pair, Pair]:
    """Of the kernel before it is deformed."""
    return _window(args[1].shape[2:], args[5:7], args[9:11])


def _pooling(args: tuple, out: list[Tensor]) -> tuple[Pair, Pair]:
    kernel = per_side(args[1])
    step = per_side((args[2] if len(args) > 2 else ()) or kernel)
    is_max = len(args) > 4 and not isinstance(args[4], bool)
    return _window(kernel, step, per_side(args[4]) if is_max else (1, 1))


def _resizing(reach: Callable[[int, int], int]) -> Callable:
    """Of an interpolation, or pooling to a size.

    Args:
        reach: from a window's first position to its last, by the number of
            positions before and after.
    """

    def window(args, out):
        sides = [*zip(args[0].shape[-2:], out[0].shape[-2:], strict=True)]
        return (
            tuple(reach(before, after) for before, after in sides),
            tuple(_step(before, after) for before, after in sides),
        )

    return window


def _step(before: int, after: int) -> float:
    """Positions between neighbouring windows.

    Strided maps have sizes that are rounded up, such as 25, 13 and 7; where
    resizing one to another undoes that, the step is the stride.
    """
    least, most = sorted((before, after))
    stride = 2 ** round(math.log2(most / least))
    if math.ceil(most / stride) != least:
        return before / after
    return stride if before > after else 1 / stride


def _interpolated(taps: int) -> Callable:
    return _resizing(lambda before, after: taps - 1)


def _antialiased(taps: int) -> Callable:
    """Of a kernel that grows with the step between windows."""

    def reach(before: int, after: int) -> int:
        step = before / after
        wide = taps / 2 * max(step, 1)
        middles = [(i + 0.5) * step for i in range(after)]
        return max(
            int(min(middle + wide + 0.5, before))
            - int(max(middle - wide + 0.5, 0))
            - 1
            for middle in middles
        )

    return _resizing(reach)


def _binned(before: int, after: int) -> int:
    """Of bins that overlap where the sizes do not divide."""
    return max(
        math.ceil((i + 1) * before / after) - i * before // after - 1
        for i in range(after)
    )


# A window's reach and step by an operation's arguments and results; None
# where it does not go over two dimensions.
WINDOWS: dict[str, Callable] = {
    'aten::convolution': _convolution,
    'aten::max_pool2d_with_indices': _pooling,
    'aten::avg_pool2d': _pooling,
    'aten::_adaptive_avg_pool2d': _resizing(_binned),
    'aten::adaptive_max_pool2d': _resizing(_binned),
    'aten::upsample_nearest2d': _interpolated(1),
    'aten::_upsample_nearest_exact2d': _interpolated(1),
    'aten::upsample_bilinear2d': _interpolated(2),
    'aten::_upsample_bilinear2d_aa': _antialiased(2),
    'aten::upsample_bicubic2d': _interpolated(4),
    'aten::_upsample_bicubic2d_aa': _antialiased(4),
    'aten::grid_sampler_2d': _interpolated(2),
    'torchvision::deform_conv2d': _deformable,
}
