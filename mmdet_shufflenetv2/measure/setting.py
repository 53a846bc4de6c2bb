"""The conditions of a measurement. Needs PyTorch alone."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..arguments import check_choice
from ..errors import UserError
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
                f'threads: expected a positive integer, got {self.threads}'
            )
        if self.mode == 'graph' and not self.on_gpu:
            raise ValueError(
                f'mode: graph needs a CUDA device, got {self.device!r}'
            )
        if PRECISIONS[self.precision].tf32 and not self.on_gpu:
            raise ValueError(
                f'precision: tf32 needs a CUDA device, got {self.device!r}'
            )
        if self.clock == 'cpu' and self.on_gpu:
            raise ValueError(
                f'clock: cpu works on the CPU only, got {self.device!r}'
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
            torch.cuda.set_device(torch.device(self.device).index or 0)
            tf32 = PRECISIONS[self.precision].tf32
            torch.backends.cuda.matmul.allow_tf32 = tf32
            torch.backends.cudnn.allow_tf32 = tf32
            torch.backends.cudnn.benchmark = True

    def stopwatch(self) -> Stopwatch:
        """How calls are timed."""
        if self.on_gpu:
            return cuda_stopwatch(self.device)
        return host_stopwatch(CLOCKS[self.clock])


def require_device(device: str) -> str:
    """The device's name, ``'cpu'`` for ``'cpu:0'``.

    Raises:
        UserError: it is not there.
    """
    try:
        kind = torch.device(device)
    except RuntimeError:
        kind = None
    if kind is None or kind.type not in ('cpu', 'cuda'):
        raise UserError(
            f'device: expected cpu, cuda or cuda:N, got {device!r}'
        )
    count = torch.cuda.device_count()
    if kind.type == 'cuda' and (kind.index or 0) >= count:
        raise UserError(
            f'device: {device} was asked for, but PyTorch finds {count} '
            'CUDA devices here; --device cpu measures the processor'
        )
    return 'cpu' if kind.type == 'cpu' else device
