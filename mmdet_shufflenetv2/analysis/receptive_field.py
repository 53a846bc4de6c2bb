"""How much of the image each level of a network sees.

The theoretical receptive field is where a position can be influenced from at
all: one backward pass through a copy of the network that has random positive
float64 weights, the identity for activations, and averages for maxima. No two
paths can cancel, so the box around the gradient is the field. The image of
that pass is long and narrow, once in each direction; what reaches its end is
larger than the probe.

The effective one is where most of a position's gradient comes from in fact
(Luo et al., arXiv 1701.04128).

A level is a map (N, C, H, W) of some module. ``features`` takes the model and
an image and gives the levels by name.
"""

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode

Features = Callable[[nn.Module, Tensor], Mapping[str, Tensor]]

# A pixel counts where its gradient is at least this share of the largest:
# one minus what lies within two standard deviations, as in the paper.
THRESHOLD = 1 - 0.9545
# The long and the narrow side of the probe, in pixels.
PROBE, NARROW = 2048, 64
# How many times wider or higher than its image a map may be: strides may
# differ on both sides, and odd sizes are rounded.
SAME_SHAPE = 4


@dataclass(frozen=True)
class Field:
    """Pixels, (height, width), that one position of a map depends on.

    ``stride`` is between neighbouring positions; ``is_larger`` where a side
    reached the end of the probe.
    """

    size: tuple[float, float]
    stride: tuple[float, float]
    is_larger: bool = False


def theoretical_fields(
    model: nn.Module, image: Tensor, features: Features
) -> dict[str, Field]:
    """The receptive field of each level that depends on the image.

    Neither the model changes, nor do the image's values matter.
    """
    model = copy.deepcopy(model).double().requires_grad_(False)
    # Some of MMDetection's backbones return None here.
    model.eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            values = torch.rand(parameter.shape, generator=generator) + 0.5
            # Maps keep their size: what is summed is averaged.
            summed = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.copy_(values / max(summed, 1))
    sides = []
    for axis, size in ((-2, (PROBE, NARROW)), (-1, (NARROW, PROBE))):
        try:
            side = _probe(model, image, size, axis, features)
        except Exception:
            # Some networks take images of one size only.
            side = _probe(model, image, image.shape[-2:], axis, features)
        sides.append(side)
    fields = {}
    for name in filter(sides[1].__contains__, sides[0]):
        size, stride, is_larger = zip(*(s[name] for s in sides), strict=True)
        fields[name] = Field(size, stride, any(is_larger))
    return fields


def _probe(
    model: nn.Module,
    image: Tensor,
    size: Sequence[int],
    axis: int,
    features: Features,
) -> dict[str, tuple[float, float, bool]]:
    """Size, stride and ``is_larger`` along height (-2) or width (-1)."""
    x = image.new_ones((*image.shape[:-2], *size), dtype=torch.float64)
    x.requires_grad_()
    with torch.enable_grad(), _Linear():
        levels = features(model, x)
    found = {}
    for name, level in levels.items():
        level = as_map(level, x)
        if level is None:
            continue
        count = level.shape[axis]
        first, last = _seen(level, x, axis, count // 2)
        if last < 0:
            continue
        is_larger = first == 0 or last == size[axis] - 1
        stride = size[axis] / count
        steps = min(8, count - 1 - count // 2)
        if size[axis] % count and steps and not is_larger:
            # Without padding a map has fewer positions than that.
            later, _ = _seen(level, x, axis, count // 2 + steps)
            stride = (later - first) / steps
        found[name] = last - first + 1, stride, is_larger
    return found


def _seen(level: Tensor, x: Tensor, axis: int, place: int) -> tuple[int, int]:
    """First and last pixel that a position depends on; (0, -1) for none."""
    line = level[0].movedim(axis, 1)[:, place]
    (gradient,) = torch.autograd.grad(
        line[:, line.shape[1] // 2].sum(), x, retain_graph=True
    )
    lines = gradient.movedim(axis, 0).flatten(1)
    if not lines.any() or not lines.isfinite().all():
        return 0, -1
    (seen,) = lines.any(1).nonzero(as_tuple=True)
    return int(seen[0]), int(seen[-1])


def as_map(level: Tensor, image: Tensor) -> Tensor | None:
    """A level as (N, C, H, W), or None if it is not a map of the image.

    Some transformers have their channels last: the sides that fit the
    image's better are taken for height and width.
    """
    if level.dim() != 4 or not level.numel() or not level.requires_grad:
        return None

    def off(map_: Tensor) -> float:
        (high, wide), (rows, columns) = map_.shape[-2:], image.shape[-2:]
        return abs(math.log(high * columns / wide / rows))

    best = min(level, level.movedim(-1, 1), key=off)
    return best if off(best) <= math.log(SAME_SHAPE) else None


def _softmax(x, dim=-1, *_, **__):
    """Its values, with a gradient that is positive but where a mask is."""
    values = x.detach().softmax(dim)
    return torch.where(values > 1e-20, values * (1 + x - x.detach()), 0)


def _average_pool(
    x, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, *_, **__
):
    """Average pooling that sees as much as maximum pooling does."""
    sides = zip(_pair(kernel), _pair(dilation), strict=True)
    reach = [(side - 1) * step + 1 for side, step in sides]
    return F.avg_pool2d(x, reach, stride or kernel, padding, ceil_mode)


# What sees as much as functions, in place or not, do of their first argument.
_INSTEAD = {
    'relu relu6 hardtanh hardswish silu gelu mish leaky_relu elu celu selu '
    'prelu rrelu softplus softsign threshold hardshrink softshrink tanhshrink '
    'clamp clip clamp_min clamp_max detach dropout': lambda x, *_, **__: x,
    # Brought to the size of 1,
    'batch_norm layer_norm group_norm instance_norm rms_norm normalize '
    'local_response_norm': lambda x, *_, **__: x / x.detach().abs().mean(),
    # or as a factor of about 1, so that products neither grow nor fade.
    'sigmoid hardsigmoid tanh logsigmoid exp log_softmax': (
        lambda x, *_, **__: 1 + x - x.detach()
    ),
    'softmax': _softmax,
    'max_pool2d': _average_pool,
    'adaptive_max_pool2d': (
        lambda x, size, *_, **__: F.adaptive_avg_pool2d(x, size)
    ),
    'amax amin': torch.mean,
}
_INSTEAD = {n: func for names, func in _INSTEAD.items() for n in names.split()}


class _Linear(TorchFunctionMode):
    """Replaces what is not linear by something that sees as much."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, '__name__', '').rstrip('_')
        x = args[0] if args else None
        if isinstance(x, Tensor) and x.is_floating_point():
            if 'deform_conv2d' in str(func):
                # Where it looks before it learns to look elsewhere.
                args = (*args[:2], 0 * args[2], *args[3:])
            func = _INSTEAD.get(name, func)
            is_pair = len(args) > 1 and isinstance(args[1], Tensor)
            # Of one map, they are the largest value along a side.
            if is_pair and re.fullmatch('f?(max|min)(imum)?', name):
                return (x + args[1]) / 2
        out = func(*args, **(kwargs or {}))
        # What a network makes in float32, or casts to it, has to fit.
        is_number = isinstance(out, Tensor) and out.is_floating_point()
        return out.double() if is_number else out


def gradient_maps(
    model: nn.Module, image: Tensor, features: Features, samples: int
) -> dict[str, Tensor]:
    """Where the gradient of each level's middle position comes from.

    It is averaged over random images, each with its own random signs of the
    channels' gradients, to maps (H, W) whose largest value is 1.
    """
    generator = torch.Generator().manual_seed(0)
    sums: dict[str, Tensor] = {}
    for _ in range(samples):
        x = torch.randn(image.shape, generator=generator).to(image)
        x.requires_grad_()
        with torch.enable_grad():
            levels = features(model, x)
        for name, level in levels.items():
            level = as_map(level, x)
            if level is None:
                continue
            middle = level[0, :, level.shape[2] // 2, level.shape[3] // 2]
            signs = torch.randint(2, middle.shape, generator=generator)
            (gradient,) = torch.autograd.grad(
                middle, x, signs.to(middle) * 2 - 1, retain_graph=True
            )
            strength = gradient.abs().flatten(0, -3).sum(0)
            sums[name] = sums.get(name, 0) + strength.float().cpu()
    return {n: each / each.max() for n, each in sums.items() if each.any()}


def effective_size(gradients: Tensor) -> float:
    """The side in pixels of a square as large as the area that matters."""
    return math.sqrt((gradients >= THRESHOLD).sum().item())


def maps_of(
    model: nn.Module, run: Callable[[], object], image: Tensor
) -> dict[str, Tensor]:
    """The outermost modules' last map of each size, by the module's path."""
    names = {id(module): name for name, module in model.named_modules()}
    best: dict[tuple[int, ...], tuple[int, str, Tensor]] = {}

    def note(module: nn.Module, _, out: object) -> None:
        name = names.get(id(module))
        map_ = as_map(out, image) if isinstance(out, Tensor) else None
        if not name or map_ is None or min(map_.shape[2:]) < 2:
            return
        size, depth = map_.shape[2:], name.count('.')
        if depth <= best.get(size, (depth,))[0]:
            # The order is that in which they are made.
            best.pop(size, None)
            # What comes next may overwrite it.
            best[size] = depth, name, out.clone()

    hook = register_module_forward_hook(note)
    try:
        run()
    finally:
        hook.remove()
    return {name: out for _, name, out in best.values()}
