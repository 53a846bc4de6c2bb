"""Measure how much of the image each level of a network sees.

The theoretical receptive field contains every pixel that can influence a
position. It is the bounding box of the gradient in a copy of the network with
random positive float64 weights, random slopes for activations and averages for
maxima, so that no two paths cancel. The probe image is long and narrow, once
in each direction; a field that reaches the probe's end is larger than it.

The effective receptive field is where most of a position's actual gradient
comes from (Luo et al., arXiv 1701.04128).

A level is a map (N, C, H, W) of some module. ``features`` maps a model and an
image to the levels by name.
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

# Least gradient, relative to the largest, of a pixel in the effective field:
# the share of a Gaussian outside two standard deviations, as in the paper.
THRESHOLD = 1 - 0.9545
# The long and the short side of the probe, in pixels.
PROBE, NARROW = 2048, 64
# How much the aspect ratios of a map and the image may differ: strides may be
# unequal, and odd sizes are rounded.
SAME_SHAPE = 4


@dataclass(frozen=True)
class Field:
    """The (height, width) in pixels that one position of a map depends on.

    ``stride`` is the distance of neighbouring positions; ``is_larger`` means
    that a side reached the end of the probe.
    """

    size: tuple[float, float]
    stride: tuple[float, float]
    is_larger: bool = False


def theoretical_fields(
    model: nn.Module, image: Tensor, features: Features
) -> dict[str, Field]:
    """The receptive field of each level that depends on the image.

    The model is not modified, and the image's values do not matter.
    """
    model = copy.deepcopy(model).double().requires_grad_(False)
    # Not chained: `eval` of some MMDetection backbones returns None.
    model.eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            values = torch.rand(parameter.shape, generator=generator) + 0.5
            # Average instead of summing, to keep the magnitude of maps.
            summed = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.copy_(values / max(summed, 1))
    sides = []
    for axis, size in ((-2, (PROBE, NARROW)), (-1, (NARROW, PROBE))):
        try:
            side = _probe(model, image, size, axis, features)
        except Exception:
            # Some networks accept only one image size.
            side = _probe(model, image, image.shape[-2:], axis, features)
        sides.append(side)
    fields = {}
    for name in filter(sides[1].__contains__, sides[0]):
        size, stride, is_larger = zip(*(s[name] for s in sides), strict=True)
        fields[name] = Field(size, stride, any(is_larger))
    if not fields:
        raise ValueError('no map (N, C, H, W) depends on the image')
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
        levels = features(model, x.clone())
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
            # Without padding, a map has fewer positions than size / stride.
            later, _ = _seen(level, x, axis, count // 2 + steps)
            stride = (later - first) / steps
        found[name] = last - first + 1, stride, is_larger
    return found


def _seen(level: Tensor, x: Tensor, axis: int, place: int) -> tuple[int, int]:
    """First and last pixel that a position depends on; (0, -1) if none."""
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
    """Return a level as (N, C, H, W), or None if it is no map of the image.

    Some transformers have channels last, so the axes whose aspect ratio is
    closer to the image's are taken as height and width.
    """
    if level.dim() != 4 or not level.numel() or not level.requires_grad:
        return None

    def mismatch(map_: Tensor) -> float:
        (high, wide), (rows, columns) = map_.shape[-2:], image.shape[-2:]
        return abs(math.log(high * columns / wide / rows))

    best = min(level, level.movedim(-1, 1), key=mismatch)
    return best if mismatch(best) <= math.log(SAME_SHAPE) else None


def _softmax(x, dim=-1, *_, **__):
    """Softmax whose gradient is positive except where a mask applies."""
    values = x.detach().softmax(dim)
    return torch.where(values > 1e-20, values * (1 + x - x.detach()), 0)


def _average_pool(
    x, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, *_, **__
):
    """Average pooling with the receptive field of max pooling."""
    sides = zip(_pair(kernel), _pair(dilation), strict=True)
    reach = [(side - 1) * step + 1 for side, step in sides]
    return F.avg_pool2d(x, reach, stride or kernel, padding, ceil_mode)


def _chosen(func, x, args, kwargs):
    """Mean along the dimension in which ``func`` chooses, with its indices."""
    found = func(x, *args, **kwargs)
    if isinstance(found, Tensor):
        return x.mean()
    position = func.__name__ in ('topk', 'kthvalue')
    dim = kwargs.get('dim', (*args, -1, -1)[position])
    mean = x.mean(dim, found[0].dim() == x.dim())
    return type(found)((mean.expand_as(found[0]), found[1]))


# Replacements of functions, in place or not, with the same receptive field in
# their first argument.
_INSTEAD = {
    'relu relu6 hardtanh hardswish silu gelu mish leaky_relu elu celu selu '
    'prelu rrelu softplus softsign threshold hardshrink softshrink tanhshrink '
    'clamp clip clamp_min clamp_max detach dropout abs': lambda x, *_, **__: x,
    # Scaled to a magnitude of 1,
    'batch_norm layer_norm group_norm instance_norm rms_norm normalize '
    'local_response_norm': lambda x, *_, **__: x / x.detach().abs().mean(),
    # or turned into factors of 1, so that products keep their magnitude.
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
_CHOOSE = 'max min median nanmedian mode sort topk kthvalue cummax cummin'
_CHOOSE = _CHOOSE.split()


class _Linear(TorchFunctionMode):
    """Replaces nonlinear functions by linear ones with the same field."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, '__name__', '').rstrip('_')
        kwargs, slope = kwargs or {}, torch.rand(()).item() + 0.5
        x = args[0] if args else None
        if isinstance(x, Tensor) and x.is_floating_point():
            if 'deform_conv2d' in str(func):
                # Zero offsets: the positions of an untrained layer.
                args = (*args[:2], 0 * args[2], *args[3:])
            is_pair = len(args) > 1 and isinstance(args[1], Tensor)
            # With a single tensor, max and min are reductions.
            if is_pair and re.fullmatch('f?(max|min)(imum)?', name):
                return (x + args[1] * slope) / 2
            if x.requires_grad and name in _CHOOSE:
                return _chosen(func, x * slope, args[1:], kwargs)
            instead = _INSTEAD.get(name.removesuffix('_with_indices'))
            if x.requires_grad and instead:
                out = instead(*args, **kwargs) * slope
                is_both = name.endswith('_with_indices')
                return (out, func(*args, **kwargs)[1]) if is_both else out
        out = func(*args, **kwargs)
        # Networks may create or cast tensors in float32.
        is_number = isinstance(out, Tensor) and out.is_floating_point()
        return out.double() if is_number else out


def gradient_maps(
    model: nn.Module, image: Tensor, features: Features, samples: int
) -> dict[str, Tensor]:
    """Maps (H, W) of where the gradient of each level's centre comes from.

    The gradient is averaged over random images, each with random signs of the
    channels' gradients. The largest value is 1.
    """
    generator = torch.Generator().manual_seed(0)
    sums: dict[str, Tensor] = {}
    for _ in range(samples):
        x = torch.randn(image.shape, generator=generator).to(image)
        x.requires_grad_()
        with torch.enable_grad():
            levels = features(model, x.clone())
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
    """Side in pixels of a square with the area of the effective field."""
    return math.sqrt((gradients >= THRESHOLD).sum().item())


def maps_of(
    model: nn.Module, run: Callable[[], object], image: Tensor
) -> dict[str, Tensor]:
    """The last map of each size from the outermost modules, by their path."""
    names = {id(module): name for name, module in model.named_modules()}
    best: dict[tuple[int, ...], tuple[int, str, Tensor]] = {}

    def note(module: nn.Module, _, out: object) -> None:
        name = names.get(id(module))
        map_ = as_map(out, image) if isinstance(out, Tensor) else None
        if name is None or map_ is None or max(map_.shape[2:]) < 2:
            return
        size, depth = map_.shape[2:], name.count('.') if name else math.inf
        if depth <= best.get(size, (depth,))[0]:
            # Keep the dict in execution order.
            best.pop(size, None)
            # Later in-place operations may overwrite the map.
            best[size] = depth, name or '(root)', out.clone()

    hook = register_module_forward_hook(note)
    try:
        run()
    finally:
        hook.remove()
    return {name: out for _, name, out in best.values()}
