"""How much of the image each level of a network sees.

The theoretical receptive field is where a position can be influenced from at
all: one backward pass through a copy of the network that has random positive
float64 weights, the identity for activations, and averages for maxima. No two
paths can cancel, so the box around the gradient is the field. The image of
that pass is long and narrow, once in each direction; what reaches its end is
larger than the probe.

The effective one is what matters in fact: by far the most of a position's
gradient comes from a small part in the middle (Luo et al., arXiv 1701.04128).

A level is a map (N, C, H, W) of some module. ``features`` takes the model and
an image and gives the levels by name.
"""

import copy
import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode

Features = Callable[[nn.Module, Tensor], Mapping[str, Tensor]]

# A pixel counts where its gradient is at least this share of the largest:
# one minus what lies within two standard deviations, as in the paper.
THRESHOLD = 1 - 0.9545
# The probe's long sides that are tried, and its narrow side, in pixels.
PROBES = (512, 2048)
NARROW = 64
# How far the shape of a map may be from that of its image (a logarithm):
# strides may differ on both sides, and odd sizes are rounded.
SAME_SHAPE, ROUNDED = math.log(4), math.log(1.25)


class Field(NamedTuple):
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
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            values = torch.rand(parameter.shape, generator=generator) + 0.5
            # Maps keep their size: what is summed is averaged.
            summed = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.copy_(values / max(summed, 1))
    # Some of MMDetection's backbones return None here.
    model.eval()
    rows, columns = (_along(model, image, a, features) for a in (-2, -1))
    fields = {}
    for name in [each for each in rows if each in columns]:
        size, stride, is_larger = zip(rows[name], columns[name], strict=True)
        fields[name] = Field(size, stride, any(is_larger))
    return fields


# Size, stride, and whether it is larger, on one side.
_Side = tuple[float, float, bool]


def _along(
    model: nn.Module, image: Tensor, axis: int, features: Features
) -> dict[str, _Side]:
    """The fields of all levels on one side: height (-2) or width (-1)."""
    found: dict[str, _Side] = {}
    for long in PROBES:
        size = [NARROW, NARROW]
        size[axis] = long
        known = {name for name, side in found.items() if not side[2]}
        try:
            found |= _probe(model, image, size, axis, features, known)
        except Exception:
            # Too large, or not of the size that the network takes.
            break
        if found and not any(is_larger for *_, is_larger in found.values()):
            break
    # Some networks take images of one size only, or resize them.
    return found or _probe(model, image, image.shape[-2:], axis, features)


def _probe(
    model: nn.Module,
    image: Tensor,
    size: Sequence[int],
    axis: int,
    features: Features,
    known: Container[str] = (),
) -> dict[str, _Side]:
    """The fields on one side by an image of this size."""
    x = image.new_ones((*image.shape[:-2], *size), dtype=torch.float64)
    x.requires_grad_()
    with torch.enable_grad(), _Linear():
        levels = features(model, x)
    found = {}
    for name, level in levels.items():
        level = as_map(level, x)
        if name in known or level is None or not level.requires_grad:
            continue
        count = level.shape[axis]
        box = _box(level, x, axis, count // 2)
        if box is None:
            # The field of this level stays unknown.
            continue
        is_larger = box[0] == 0 or box[1] == size[axis] - 1
        stride = size[axis] / count
        if size[axis] % count and not is_larger:
            # Without padding a map has fewer positions than that.
            steps = min(8, count - 1 - count // 2)
            later = _box(level, x, axis, count // 2 + steps)
            stride = (later[0] - box[0]) / steps if steps else stride
        found[name] = box[1] - box[0] + 1, stride, is_larger
    return found


def as_map(level: Tensor, image: Tensor) -> Tensor | None:
    """A level as (N, C, H, W); None if it is not a map of the image.

    Some transformers have their channels last.
    """
    if level.dim() != 4 or not level.numel():
        return None
    shape = image.shape[-2] / image.shape[-1]

    def off(map_: Tensor) -> float:
        return abs(math.log(map_.shape[-2] / map_.shape[-1] / shape))

    last = level.movedim(-1, 1)
    # Without a name for its dimensions a map with its channels last is only
    # taken for one where it fits the image well.
    if off(last) < min(off(level), ROUNDED):
        return last
    return level if off(level) <= SAME_SHAPE else None


def _box(
    level: Tensor, x: Tensor, axis: int, place: int
) -> tuple[int, int] | None:
    """First and last pixel that a position of a map depends on, if any."""
    line = level[0].movedim(axis, 1)[:, place]
    (gradient,) = torch.autograd.grad(
        line[:, line.shape[1] // 2].sum(), x, retain_graph=True
    )
    lines = gradient.movedim(axis, 0).flatten(1)
    (seen,) = (lines != 0).any(1).nonzero(as_tuple=True)
    if not len(seen) or not lines.isfinite().all():
        return None
    return int(seen[0]), int(seen[-1])


# Each of these sees as much as its first argument: as it is,
_IDENTITIES = {
    *('relu', 'relu_', 'relu6', 'hardtanh', 'hardtanh_', 'hardswish'),
    *('silu', 'gelu', 'mish', 'leaky_relu', 'leaky_relu_', 'elu', 'elu_'),
    *('celu', 'selu', 'prelu', 'rrelu', 'softplus', 'softsign', 'threshold'),
    *('hardshrink', 'softshrink', 'tanhshrink', 'clamp', 'clamp_', 'clip'),
    *('clamp_min', 'clamp_min_', 'clamp_max', 'detach', 'dropout'),
}
# brought to the size of 1,
_NORMS = {
    *('batch_norm', 'layer_norm', 'group_norm', 'instance_norm', 'rms_norm'),
    *('normalize', 'local_response_norm'),
}
# or as a factor of about 1, so that products neither grow nor fade.
_GATES = {
    *('sigmoid', 'sigmoid_', 'hardsigmoid', 'hardsigmoid_', 'tanh', 'tanh_'),
    *('logsigmoid', 'exp', 'log_softmax'),
}


class _Linear(TorchFunctionMode):
    """Replaces what is not linear by something that sees as much."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, '__name__', '')
        x = args[0] if args else None
        if isinstance(x, Tensor) and x.is_floating_point():
            if name in _IDENTITIES:
                return x
            if name in _NORMS:
                return x / x.detach().abs().mean()
            if name in _GATES:
                return 1 + x - x.detach()
            if 'deform_conv2d' in str(func):
                name = 'deform_conv2d'
            func = _INSTEAD.get(name, func)
        out = func(*args, **kwargs)
        # What a network makes in float32, or casts to it, has to fit.
        is_number = isinstance(out, Tensor) and out.is_floating_point()
        return out.double() if is_number else out


def _softmax(x, dim=None, *_, **__):
    """Its values, with a gradient that is positive everywhere."""
    values = x.detach().softmax(-1 if dim is None else dim)
    # Of what a mask takes out there is none.
    seen = values > 1e-20
    x = torch.where(seen, x, 0)
    return torch.where(seen, values, 0) * (1 + x - x.detach())


def _average_pool(
    x, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, *_, **__
):
    """Average pooling that goes over a map as maximum pooling does."""
    kernel, stride, padding, dilation = (
        tuple(each) if isinstance(each, tuple | list) else (each, each)
        for each in (kernel, stride or kernel, padding, dilation)
    )
    # The last window of `ceil_mode` may reach over the edge.
    more = [s - 1 if ceil_mode else 0 for s in stride]
    (top, left), (below, right) = padding, map(sum, zip(padding, more))  # noqa: B905
    weight = x.new_full((x.shape[-3], 1, *kernel), 1 / math.prod(kernel))
    return F.conv2d(
        F.pad(x, (left, right, top, below)),
        weight,
        stride=stride,
        dilation=dilation,
        groups=x.shape[-3],
    )


def _undeformed(x, weight, offset, mask, bias, *numbers):
    """A deformable convolution before it is deformed."""
    stride, padding, dilation = numbers[0:2], numbers[2:4], numbers[4:6]
    groups = x.shape[1] // weight.shape[1]
    out = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    return out + 1e-6 * offset.mean(1, True)


def _mean_of(x, *others, **kwargs):
    """Of two maps, or over a dimension, as `torch.max` does either."""
    other = others[0] if others else kwargs.get('other', kwargs.get('dim'))
    if isinstance(other, Tensor):
        return (x + other) / 2
    if other is None:
        return x.mean()
    values, indices = torch.max(x.detach(), *others, **kwargs)
    keep = values.dim() == x.dim()
    return type(torch.max(x, 0))((x.mean(other, keep), indices))


_INSTEAD: dict[str, Callable] = {
    'softmax': _softmax,
    'max_pool2d': _average_pool,
    'adaptive_max_pool2d': lambda x, size, *_, **__: F.adaptive_avg_pool2d(
        x, size
    ),
    'deform_conv2d': _undeformed,
    **dict.fromkeys(('amax', 'amin'), torch.mean),
    **dict.fromkeys(('max', 'min', 'maximum', 'minimum'), _mean_of),
}


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
            if level is None or not level.requires_grad:
                continue
            middle = level[0, :, level.shape[2] // 2, level.shape[3] // 2]
            signs = torch.randint(2, middle.shape, generator=generator)
            (gradient,) = torch.autograd.grad(
                middle, x, signs.to(middle) * 2 - 1, retain_graph=True
            )
            strength = gradient.abs().flatten(0, -3).sum(0)
            sums[name] = sums.get(name, 0) + strength.float().cpu()
    return {
        name: total / total.max()
        for name, total in sums.items()
        if total.max() > 0
    }


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
