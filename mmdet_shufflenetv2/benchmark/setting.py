"""The conditions of a measurement, and networks and inputs under them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import NamedTuple

import torch
from mmcv.cnn import fuse_conv_bn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..backbones.base import StagedBackbone, check_choice
from .timing import CLOCKS, Stopwatch, cuda_stopwatch, host_stopwatch


class Precision(NamedTuple):
    """A type of numbers, and whether products of it may use TF32."""

    dtype: torch.dtype
    tf32: bool = False


PRECISIONS = {
    'fp32': Precision(torch.float32),
    'tf32': Precision(torch.float32, tf32=True),
    'fp16': Precision(torch.float16),
    'bf16': Precision(torch.bfloat16),
}
LAYOUTS = {
    'contiguous': torch.contiguous_format,
    'channels_last': torch.channels_last,
}
# How a network runs; the paper's protocol fuses element-wise operations.
MODES = {
    'eager': 'as written',
    'folded': 'batch norm folded into convolutions',
    'graph': 'folded, and replayed as a CUDA graph',
    'compiled': 'torch.compile',
}
# More than any cache holds, so that no input is still in one.
POOL_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Setting:
    """What a measurement is made under.

    Attributes:
        device: ``'cpu'``, ``'cuda'`` or ``'cuda:N'``.
        threads: of the CPU.
        precision: one of `PRECISIONS`.
        layout: of maps in memory, one of `LAYOUTS`.
        mode: one of `MODES`.
        clock: one of `CLOCKS`; a GPU's work is timed by its own.

    Raises:
        ValueError: an attribute is not one of the allowed values.
    """

    device: str = 'cpu'
    threads: int = 1
    precision: str = 'fp32'
    layout: str = 'contiguous'
    mode: str = 'eager'
    clock: str = 'wall'

    def __post_init__(self):
        check_choice('precision', self.precision, tuple(PRECISIONS))
        check_choice('layout', self.layout, tuple(LAYOUTS))
        check_choice('mode', self.mode, tuple(MODES))
        check_choice('clock', self.clock, tuple(CLOCKS))
        if self.threads < 1:
            raise ValueError(
                f'threads must be a positive integer, got {self.threads}'
            )
        if self.mode == 'graph' and not self.on_gpu:
            raise ValueError(
                f'mode: graph needs a CUDA device, got {self.device!r}'
            )
        if self.clock == 'cpu' and self.on_gpu:
            raise ValueError(
                f'clock: cpu is allowed on the CPU only, got {self.device!r}'
            )

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return torch.device(self.device).type == 'cuda'

    @property
    def dtype(self) -> torch.dtype:
        """The type of weights and maps."""
        return PRECISIONS[self.precision].dtype

    def apply(self) -> None:
        """Bring PyTorch into this setting."""
        torch.set_num_threads(self.threads)
        # Denormal numbers, which random weights make and trained ones
        # hardly, are 100 times slower on a CPU.
        torch.set_flush_denormal(True)
        if self.on_gpu:
            torch.cuda.set_device(self.device)
            tf32 = PRECISIONS[self.precision].tf32
            torch.backends.cuda.matmul.allow_tf32 = tf32
            torch.backends.cudnn.allow_tf32 = tf32
            torch.backends.cudnn.benchmark = True

    def stopwatch(self) -> Stopwatch:
        """How calls are timed."""
        if self.on_gpu:
            return cuda_stopwatch(self.device)
        return host_stopwatch(CLOCKS[self.clock])


@cache
def _pool(device: str, dtype: torch.dtype, numel: int) -> Tensor:
    generator = torch.Generator(device).manual_seed(0)
    return torch.randn(numel, generator=generator, device=device, dtype=dtype)


class Inputs:
    """Normally distributed maps, handed out in turn.

    They are parts of one pool that no cache holds, and never zeros, which
    some devices multiply faster.

    Args:
        shape: (N, C, H, W).
        setting: device, type and layout.
    """

    def __init__(self, shape: Sequence[int], setting: Setting):
        self.shape = tuple(shape)
        self.channels_last = setting.layout == 'channels_last'
        self.numel = prod(shape)
        capacity = POOL_BYTES // setting.dtype.itemsize
        self.pool = _pool(
            setting.device, setting.dtype, max(capacity, 2 * self.numel)
        )
        self.count = len(self.pool) // self.numel
        self.turn = 0

    def __call__(self) -> Tensor:
        """The next map."""
        start = self.turn % self.count * self.numel
        self.turn += 1
        part = self.pool[start : start + self.numel]
        if self.channels_last:
            n, c, h, w = self.shape
            return part.view(n, h, w, c).permute(0, 3, 1, 2)
        return part.view(self.shape)


def prepare(network: nn.Module, setting: Setting) -> nn.Module:
    """Bring a network with random weights into a setting, for inference.

    Its batch norms get the statistics of random images, so that its maps
    neither fade nor explode on their way: some devices are faster on zeros.

    Args:
        network: maps (N, 3, H, W) in float32; changed in place.
        setting: device, precision, layout, and whether to fold.
    """
    network.to(setting.device)
    settle_norms(network, torch.randn(8, 3, 64, 64, device=setting.device))
    network.eval().requires_grad_(False)
    if setting.mode in ('folded', 'graph'):
        fuse_conv_bn(network)
    return place(network, setting)


def place(network: nn.Module, setting: Setting) -> nn.Module:
    """Give a network the device, type and layout of a setting."""
    for module in network.modules():
        if isinstance(module, StagedBackbone):
            module.channels_last = setting.layout == 'channels_last'
    network.to(setting.device, setting.dtype)
    return network.to(memory_format=LAYOUTS[setting.layout])


def settle_norms(
    network: nn.Module,
    images: Tensor,
    forward: Callable[[Tensor], object] | None = None,
) -> None:
    """Give every batch norm the statistics of these images.

    Args:
        network: left in training mode.
        images: (N, 3, H, W).
        forward: what to call with them; the network by default.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    network.train()
    with torch.no_grad():
        (forward or network)(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def inference(
    network: nn.Module, shape: Sequence[int], setting: Setting
) -> Callable[[], object]:
    """One pass of a prepared network over the next of its inputs.

    Args:
        network: as `prepare` returns it.
        shape: (N, C, H, W) of the input.
        setting: its mode says how the network runs.
    """
    inputs = Inputs(shape, setting)
    run = network
    if setting.mode == 'compiled':
        run = torch.compile(network)
    elif setting.mode == 'graph':
        run = captured(network, inputs())

    def step() -> object:
        with torch.inference_mode():
            return run(inputs())

    return step


def captured(
    function: Callable[[Tensor], object], example: Tensor
) -> Callable[[Tensor], object]:
    """Record a function of a map as a CUDA graph.

    Args:
        function: of fixed shapes; reads no value on the host.
        example: a map of the shape and layout that will come.

    Returns:
        the function, whose result the next call overwrites. Copying the map
        to where the graph reads it is part of it.
    """
    with torch.inference_mode():
        static = example.clone(memory_format=torch.preserve_format)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Libraries allocate and choose algorithms on their first calls.
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
