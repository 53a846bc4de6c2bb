"""Check and read the arguments of both ops: RoIs, maps and options."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from .row_sum import exporting


class PSRoIModule(nn.Module):
    """A module that applies an op; its options are attributes."""

    op: Callable

    def __init__(
        self,
        output_size: int | Sequence[int],
        spatial_scale: float = 1.0,
        **options,
    ) -> None:
        super().__init__()
        self.options = dict(
            output_size=output_size, spatial_scale=spatial_scale, **options
        )
        vars(self).update(self.options)

    def forward(self, input: Tensor, rois: Tensor | list[Tensor]) -> Tensor:
        options = {name: getattr(self, name) for name in self.options}
        return type(self).op(input, rois, **options)

    def extra_repr(self) -> str:
        return ', '.join(f'{n}={getattr(self, n)!r}' for n in self.options)


def require(condition: bool, name: str, expected: str, got: object) -> None:
    """Raise ValueError with ``name``, ``expected`` and ``got`` if false."""
    if not condition:
        raise ValueError(f'{name}: expected {expected}, got {got!r}')


def to_rois(boxes: Tensor | Sequence[Tensor]) -> Tensor:
    """Return boxes as one ``(K, 5)`` tensor of (batch index, x1, y1, x2, y2).

    Accepts such a tensor, or one ``(L, 4)`` tensor per image.
    """
    is_one = isinstance(boxes, Tensor)
    parts, columns = ([boxes], 5) if is_one else (list(boxes), 4)
    shapes = [tuple(getattr(part, 'shape', [part])) for part in parts]
    require(
        shapes and all(s[1:] == (columns,) for s in shapes),
        'boxes',
        'one (K, 5) tensor of the batch index, x1, y1, x2, y2, or a list '
        'with one (L, 4) tensor per image',
        shapes,
    )
    if is_one:
        return boxes
    indexed = [
        torch.cat([torch.full_like(part[:, :1], i), part], dim=1)
        for i, part in enumerate(parts)
    ]
    return torch.cat(indexed)


def to_pair(output_size: int | Sequence[int]) -> tuple[int, int]:
    """Return (height, width) in bins."""
    pair = (output_size,) * 2 if isinstance(output_size, int) else output_size
    require(
        isinstance(pair, Sequence)
        and [isinstance(n, int) and n > 0 for n in pair] == [True, True],
        'output_size',
        'a positive int or two of them (height, width)',
        output_size,
    )
    return tuple(pair)


def check_map(
    input: Tensor, output_size: tuple[int, int], spatial_scale: float
) -> int:
    """Check a position-sensitive map ``(N, C, H, W)``; return C / bins.

    It must be floating point and have at least one cell, and C must be a
    multiple of the number of bins.
    """
    fits = 0 < spatial_scale < math.inf
    require(fits, 'spatial_scale', 'a positive finite number', spatial_scale)
    bins, shape = math.prod(output_size), tuple(input.shape)
    require(
        len(shape) == 4
        and input.is_floating_point()
        and 0 not in shape[1:]
        and shape[1] % bins == 0,
        'input',
        'a floating point (N, C, H, W) map of at least one cell, with a '
        f'multiple of {bins} channels for the bins of {output_size=}',
        (input.dtype, shape),
    )
    return shape[1] // bins


def is_eager_cpu(tensor: Tensor) -> bool:
    """Whether values can be read without synchronising or tracing."""
    return (
        tensor.device.type == 'cpu'
        and not torch.compiler.is_compiling()
        and not exporting()
        and not isinstance(tensor, FakeTensor)
    )


def read_rois(
    boxes: Tensor | Sequence[Tensor], input: Tensor, spatial_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return which RoIs are valid, their image indices and boxes in cells.

    RoIs are invalid if they have a NaN or infinite value, are empty
    (``x2 <= x1`` or ``y2 <= y1``, in cells), or belong to no image. They come
    back as the box 0, 0, 0, 0 of image 0; callers must give them no weight.

    Boxes are in the dtype of ``input``, float32 at least. A finite batch
    index out of range is a ValueError on an eager CPU; elsewhere the check
    would synchronise the device.
    """
    dtype = torch.promote_types(input.dtype, torch.float32)
    rois = to_rois(boxes).detach().to(dtype)
    image, images = rois[:, 0], input.size(0)
    of_an_image = (image > -1) & (image < images)
    if is_eager_cpu(rois):
        wrong = torch.isfinite(image) & ~of_an_image
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ValueError(
                f'boxes: expected batch indices in [0, {images - 1}] for an '
                f'input of {images} images, got {int(image[row])} in row {row}'
            )
    box = rois[:, 1:] * spatial_scale
    size = box[:, 2:] - box[:, :2]
    valid = of_an_image & torch.isfinite(box).all(dim=1)
    valid = valid & ((size > 0) & (size < math.inf)).all(dim=1)
    nothing = torch.zeros_like(box)
    return (
        valid,
        torch.where(valid, image, nothing[:, 0]).long(),
        torch.where(valid[:, None], box, nothing),
    )
