"""How much of the image each level of a network sees.

The theoretical receptive field is where a position can be influenced from at
all: one backward pass through a copy of the network that has random positive
weights, the identity for activations and norms, and averages for maxima. No
two paths can cancel, and on its way the gradient is brought back to numbers
of about 1 wherever there is any, so that it never fades to nothing: the box
around it is the field. The image of that pass is long and narrow, once in
each direction; what reaches the image's edge is larger than it.

The effective one is what matters in fact: by far the most of a position's
gradient comes from a small part in the middle (Luo et al., arXiv 1701.04128).

A level is a map (N, C, H, W) of some module. ``features`` takes the model and
an image and gives the levels by name.
"""

import copy
import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode

Pair = tuple[float, float]
Features = Callable[[nn.Module, Tensor], Mapping[str, Tensor]]

# A pixel counts where its gradient is at least this share of the largest:
# one minus what lies within two standard deviations, as in the paper.
THRESHOLD = 1 - 0.9545
# Pixels of the image that the theoretical field is looked for in: the long
# sides that are tried, and the narrow side.
PROBES = (512, 1024, 2048)
NARROW = 64
# Positions along a map over which its stride is measured.
STEPS = 8
# How far the shape of a map may be from that of its image (a logarithm):
# strides may differ on both sides, and odd sizes are rounded.
SAME_SHAPE = math.log(4)
ROUNDED = math.log(1.25)


@dataclass(frozen=True)
class Field:
    """What one position of a map depends on.

    Attributes:
        size: pixels of the image, height and width; where a side reaches the
            edge of the probe, the probe's.
        stride: pixels between neighbouring positions.
        is_larger: whether a side reached the edge of the probe.
    """

    size: Pair
    stride: Pair
    is_larger: bool = False


def theoretical_fields(
    model: nn.Module, image: Tensor, features: Features
) -> dict[str, Field]:
    """The receptive field of each level that depends on the image.

    Args:
        model: stays as it is.
        image: (..., C, H, W); its values do not matter.
        features: gives the levels.

    Raises:
        Exception: whatever a network raises that has no gradient.
    """
    model = positive(model)
    rows = _along(model, image, -2, features)
    columns = _along(model, image, -1, features)
    return {
        name: Field(
            *zip(row[:2], columns[name][:2], strict=True),
            row[2] or columns[name][2],
        )
        for name, row in rows.items()
        if name in columns
    }


def positive(model: nn.Module) -> nn.Module:
    """A copy whose weights are random, positive and moderate."""
    model = copy.deepcopy(model).float()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            values = torch.rand(parameter.shape, generator=generator) + 0.5
            # Maps keep their size: what is summed is averaged.
            summed = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.data = (values / max(summed, 1)).to(parameter.device)
        parameter.requires_grad_(False)
    # Some of MMDetection's backbones return None here.
    model.eval()
    return model


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
        done = {name for name, side in found.items() if not side[2]}
        try:
            new = _probe(model, image, size, axis, features, done)
        except Exception:
            new = {}
        if not (new or found):
            # Some networks take images of one size only, or resize them.
            return _probe(model, image, image.shape[-2:], axis, features, done)
        if not new:
            # Too large; what is known so far stands.
            break
        found |= new
        if not any(is_larger for *_, is_larger in found.values()):
            break
    return found


def _probe(
    model: nn.Module,
    image: Tensor,
    size: Sequence[int],
    axis: int,
    features: Features,
    done: Container[str],
) -> dict[str, _Side]:
    """The fields on one side by an image of this size."""
    generator = torch.Generator().manual_seed(0)
    shape = (*image.shape[:-2], *size)
    x = (torch.rand(shape, generator=generator) + 0.5).to(image.device)
    x.requires_grad_()
    with torch.enable_grad(), _Linear():
        levels = features(model, x)
    found = {}
    for name, level in levels.items():
        level = as_map(level, x)
        if name in done or level is None or not level.requires_grad:
            continue
        count = level.shape[axis]
        middle = count // 2
        box = _box(level, x, axis, middle)
        if box is None:
            # The field of this level stays unknown.
            continue
        first, last = box
        is_larger = first == 0 or last == size[axis] - 1
        stride = size[axis] / count
        steps = min(STEPS, count - 1 - middle)
        if size[axis] % count and steps and not is_larger:
            later = _box(level, x, axis, middle + steps)
            stride = (later[0] - first) / steps
        found[name] = last - first + 1, stride, is_larger
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


def _refreshed(gradient: Tensor) -> Tensor:
    """Random numbers wherever there is a gradient."""
    return (gradient != 0) * (torch.rand_like(gradient) + 0.5)


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


# After these the gradient is brought back to about 1.
_SUMS = {
    *('conv1d', 'conv2d', 'conv3d', 'linear', 'matmul', '__matmul__', 'bmm'),
    *('conv_transpose1d', 'conv_transpose2d', 'conv_transpose3d', 'einsum'),
    *('mean', 'avg_pool2d', 'adaptive_avg_pool2d', 'interpolate'),
}


class _Linear(TorchFunctionMode):
    """Replaces what is not linear by something that sees as much."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, '__name__', '')
        x = args[0] if args else None
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return func(*args, **kwargs)
        if name in _IDENTITIES:
            return x
        if name in _NORMS:
            return x / x.detach().abs().mean()
        if name in _GATES:
            return 1 + x - x.detach()
        if name in _INSTEAD:
            return _INSTEAD[name](*args, **kwargs)
        if 'deform_conv2d' in str(func):
            return _undeformed(*args, **kwargs)
        out = func(*args, **kwargs)
        if name in _SUMS and out.requires_grad:
            out.register_hook(_refreshed)
        return out


def _softmax(x, dim=None, *_, **__):
    """Its values, with a gradient that is positive everywhere."""
    values = x.detach().softmax(-1 if dim is None else dim)
    values = torch.where(values > 1e-20, values, 0)
    x = torch.where(values > 0, x, 0)
    return values * (1 + x - x.detach())


def _average_pool(
    x,
    kernel_size,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    *_,
    **__,
):
    """Average pooling that goes over a map as maximum pooling does."""
    kernel, padding, dilation = map(_pair, (kernel_size, padding, dilation))
    stride = _pair(stride or kernel_size)
    # The last window of `ceil_mode` may reach over the edge.
    more = [s - 1 if ceil_mode else 0 for s in stride]
    x = F.pad(
        x,
        (padding[1], padding[1] + more[1], padding[0], padding[0] + more[0]),
    )
    weight = x.new_full((x.shape[-3], 1, *kernel), 1 / math.prod(kernel))
    return F.conv2d(
        x, weight, stride=stride, dilation=dilation, groups=x.shape[-3]
    )


def _pair(value) -> tuple[int, int]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _undeformed(x, weight, offset, mask, bias, *numbers):
    """A deformable convolution before it is deformed."""
    stride, padding, dilation = numbers[0:2], numbers[2:4], numbers[4:6]
    groups = x.shape[1] // weight.shape[1]
    out = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    return out if offset is None else out + 1e-6 * offset.mean(1, True)


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
    **dict.fromkeys(('amax', 'amin'), torch.mean),
    **dict.fromkeys(('max', 'min', 'maximum', 'minimum'), _mean_of),
}


def gradient_maps(
    model: nn.Module, image: Tensor, features: Features, samples: int
) -> dict[str, Tensor]:
    """Where the gradient of each level's middle position comes from.

    Args:
        model: as it is used.
        image: (..., C, H, W); its values do not matter.
        features: gives the levels.
        samples: images to average over; each has its own random signs of
            the channels' gradients.

    Returns:
        for each map among the levels (H, W), the largest value is 1.
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
    """The side of a square as large as the area that matters.

    Args:
        gradients: (H, W), the largest value is 1.

    Returns:
        pixels.
    """
    return math.sqrt((gradients >= THRESHOLD).sum().item())


def maps_of(
    model: nn.Module, run: Callable[[], object], image: Tensor
) -> dict[str, Tensor]:
    """One map of each size that the modules of a network give.

    Of several it is the last one of the outermost modules.

    Args:
        model: a network.
        run: executes it.
        image: what it runs on.

    Returns:
        maps by their module's path; those smaller than 2x2 are left out.
    """
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
