"""Prepare networks and inputs for a setting. Requires only PyTorch."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import cycle
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .setting import LAYOUTS, Setting

# Larger than any cache, so that no input is still in one.
POOL_BYTES = 128 * 2**20
# Largest error of a folded network, relative to its largest output.
FOLD_TOLERANCE = 1e-3
PASSES = ('forward', 'forward and backward')


@cache
def _pool(device: str, dtype: torch.dtype, numel: int) -> Tensor:
    generator = torch.Generator(device).manual_seed(0)
    return torch.randn(numel, generator=generator, device=device, dtype=dtype)


def maps_in_turn(
    shape: Sequence[int], setting: Setting
) -> Callable[[], Tensor]:
    """Return a function that gives another random (N, C, H, W) each time.

    The maps are slices of one pool that is larger than any cache. Their
    values are normally distributed because some devices are faster on zeros.
    """
    n, c, h, w = shape
    numel = prod(shape)
    capacity = POOL_BYTES // setting.dtype.itemsize
    pool = _pool(setting.device, setting.dtype, max(capacity, 2 * numel))
    maps = pool[: len(pool) // numel * numel].view(-1, *shape)
    if setting.layout == 'channels_last':
        maps = maps.view(-1, n, h, w, c).permute(0, 1, 4, 2, 3)
    return partial(next, cycle(maps))


def prepare(
    network: nn.Module, setting: Setting, shape: Sequence[int] = (8, 3, 64, 64)
) -> nn.Module:
    """Prepare a network with random weights for inference in a setting.

    Batch norms get the statistics of random maps, so that values neither
    vanish nor explode: some devices are faster on zeros.

    Args:
        network: float32 network that takes (N, C, H, W); changed in place.
        setting: device, precision, layout, and whether to fold.
        shape: shape of the maps that the statistics are taken from.

    Raises:
        RuntimeError: folding changes what the network computes.
    """
    network.to(setting.device)
    maps = torch.randn(*shape, device=setting.device)
    # Nothing is timed yet, so skip the search for the fastest algorithms.
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, allow_tf32=False
    ):
        settle_norms(network, maps)
        network.eval().requires_grad_(False)
        if setting.mode in ('folded', 'graph'):
            before = network(maps)
            fold(network)
            error = (network(maps) - before).abs().max() / before.abs().max()
            if not error < FOLD_TOLERANCE:
                raise RuntimeError(
                    f'folding batch norms changes the output by {error:.0%}'
                )
    return place(network, setting)


def fold(network: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, in place.

    Children are assumed to run in the order of their definition. The order
    in an mmcv `ConvModule` is read from its attribute ``order``.
    """
    for module in list(network.modules()):
        order = getattr(module, 'order', None)
        if isinstance(order, tuple) and order[:2] != ('conv', 'norm'):
            continue
        before, conv = '', None
        for name, child in list(module.named_children()):
            if (
                isinstance(child, _BatchNorm)
                and isinstance(conv, nn.Conv2d)
                and conv.out_channels == child.num_features
            ):
                setattr(module, before, fuse_conv_bn_eval(conv, child))
                setattr(module, name, nn.Identity())
            before, conv = name, child


def place(network: nn.Module, setting: Setting) -> nn.Module:
    """Move a network to the device, data type and layout of a setting."""
    for module in network.modules():
        # This package's backbones convert their input to this layout.
        if hasattr(module, 'channels_last'):
            module.channels_last = setting.layout == 'channels_last'
    network.to(setting.device, setting.dtype)
    return network.to(memory_format=LAYOUTS[setting.layout])


@torch.no_grad()
def settle_norms(
    network: nn.Module,
    images: Tensor,
    forward: Callable[[Tensor], object] | None = None,
) -> None:
    """Set the statistics of every batch norm from these images.

    Args:
        network: changed in place and left in training mode.
        images: (N, 3, H, W).
        forward: what to call with the images; default: the network.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.train()
    for norm in norms:
        # Some backbones keep their norms in evaluation mode.
        norm.train()
        norm.momentum = 1.0
    (forward or network)(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def with_backward(
    run: Callable[[], Tensor], leaves: Iterable[Tensor]
) -> Callable[[], object]:
    """Return a function that runs forward and backward, then drops grads."""
    leaves, gradient = list(leaves), torch.randn_like(run())

    def both() -> None:
        run().backward(gradient)
        for leaf in leaves:
            leaf.grad = None

    return both


def inference(
    network: nn.Module, shape: Sequence[int], setting: Setting
) -> Callable[[], object]:
    """Return a function that runs a prepared network on its next input.

    Args:
        network: as `prepare` returns it.
        shape: (N, C, H, W) of the input.
        setting: its mode determines how the network runs.
    """
    inputs, run = maps_in_turn(shape, setting), network
    if setting.mode == 'compiled':
        run = torch.compile(network)
    elif setting.mode == 'graph':
        run = captured(network, inputs())
    return torch.inference_mode()(lambda: run(inputs()))


@torch.inference_mode()
def captured(
    function: Callable[[Tensor], object], example: Tensor
) -> Callable[[Tensor], object]:
    """Capture a function of maps like the example as a CUDA graph.

    Each call copies its map to the graph's input and overwrites the result
    of the previous call.
    """
    static = example.clone(memory_format=torch.preserve_format)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # Let libraries allocate memory and choose algorithms first.
        for _ in range(3):
            function(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function(static)

    def replay(x: Tensor) -> object:
        static.copy_(x)
        graph.replay()
        return result

    return replay
