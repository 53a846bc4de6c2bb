"""The setting of a measurement. Requires only PyTorch."""

import argparse
import datetime
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import torch

from .. import __version__
from ..arguments import check_choice
from ..errors import UserError
from .timing import CLOCKS, Stopwatch, cuda_stopwatch, host_stopwatch

# tf32 stores fp32 but allows TF32 in matrix products and convolutions.
PRECISIONS = {
    'fp32': torch.float32,
    'tf32': torch.float32,
    'fp16': torch.float16,
    'bf16': torch.bfloat16,
}
LAYOUTS = {
    'contiguous': torch.contiguous_format,
    'channels_last': torch.channels_last,
}
# How a network runs. The paper's protocol fuses element-wise operations.
MODES = {
    'eager': 'as written',
    'folded': 'batch norm folded into convolutions',
    'graph': 'folded, and replayed as a CUDA graph',
    'compiled': 'torch.compile',
}
# Columns that do not identify a measurement: a difference in these alone is
# no reason to measure again.
CIRCUMSTANCES = ('cores', 'load', 'python', 'commit', 'date')


@dataclass(frozen=True)
class Setting:
    """The setting of a measurement.

    Attributes:
        device: ``'cpu'``, ``'cuda'`` or ``'cuda:N'``.
        threads: number of CPU threads.
        precision: one of `PRECISIONS`.
        layout: memory layout of feature maps, one of `LAYOUTS`.
        mode: one of `MODES`.
        clock: one of `CLOCKS`, for the CPU; GPUs are timed with CUDA events.

    Raises:
        ValueError: an attribute is not one of the allowed values.
        UserError: a value does not work on this device.
    """

    device: str = 'cpu'
    threads: int = 1
    precision: str = 'fp32'
    layout: str = 'contiguous'
    mode: str = 'eager'
    clock: str = 'wall'

    def __post_init__(self):
        check_choice('precision', self.precision, PRECISIONS)
        check_choice('layout', self.layout, LAYOUTS)
        check_choice('mode', self.mode, MODES)
        check_choice('clock', self.clock, CLOCKS)
        unsupported = [('clock', 'cpu')]
        if not self.on_gpu:
            unsupported = [('precision', 'tf32'), ('mode', 'graph')]
        for name, value in unsupported:
            if getattr(self, name) == value:
                raise UserError(
                    f'{name}: {value} does not work on {self.device}'
                )

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return torch.device(self.device).type == 'cuda'

    @property
    def dtype(self) -> torch.dtype:
        """The data type of weights and feature maps."""
        return PRECISIONS[self.precision]

    def apply(self) -> None:
        """Configure PyTorch for this setting."""
        torch.set_num_threads(self.threads)
        # Denormals are 100 times slower on a CPU. Random weights produce
        # them, trained ones hardly do.
        torch.set_flush_denormal(True)
        if self.on_gpu:
            torch.cuda.set_device(torch.device(self.device).index or 0)
            tf32 = self.precision == 'tf32'
            torch.backends.cuda.matmul.allow_tf32 = tf32
            torch.backends.cudnn.allow_tf32 = tf32
            torch.backends.cudnn.benchmark = True

    def stopwatch(self) -> Stopwatch:
        """Return the stopwatch for this device and clock."""
        if self.on_gpu:
            return cuda_stopwatch(self.device)
        return host_stopwatch(CLOCKS[self.clock])


def describe(setting: Setting) -> dict[str, object]:
    """Return the setting and the machine as columns of a record.

    ``load`` is the system's load average over the last minute. If it is well
    above the benchmark's own number of threads, the machine was busy.
    """
    load = getattr(os, 'getloadavg', lambda: [''])()[0]
    device = 'cpu'
    if setting.on_gpu:
        device = torch.cuda.get_device_name(setting.device)
    return {
        'device': device,
        'cpu': _cpu_name(),
        'threads': setting.threads,
        'precision': setting.precision,
        'layout': setting.layout,
        'mode': setting.mode,
        'clock': 'events' if setting.on_gpu else setting.clock,
        'torch': torch.__version__,
        'cores': os.cpu_count(),
        'load': load and round(load, 1),
        'python': platform.python_version(),
        'commit': _commit(),
        'date': datetime.date.today().isoformat(),
    }


@cache
def _cpu_name() -> str:
    path = Path('/proc/cpuinfo')
    text = path.read_text(errors='replace') if path.is_file() else ''
    if name := re.search(r'^model name\s*:[ \t]*(\S.*?)\s*$', text, re.M):
        return name[1]
    return platform.processor() or platform.machine() or 'unknown'


@cache
def _commit() -> str:
    """The checkout's commit, with ``+`` if modified; else the version."""
    found = ''
    for command in (
        # Fails for an installed copy inside some other repository.
        ('ls-files', '--error-unmatch', Path(__file__).name),
        ('describe', '--always', '--exclude=*', '--abbrev=9', '--dirty=+'),
    ):
        git = 'git', '-C', str(Path(__file__).parent), *command
        try:
            found = subprocess.check_output(git, stderr=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError):
            return f'version {__version__}'
    return found.decode().strip()


def require_device(device: str) -> str:
    """Return the device's name, ``'cpu'`` for ``'cpu:0'``.

    Raises:
        UserError: the name is invalid, or there is no such device.
    """
    match = re.fullmatch(r'(cpu|cuda)(?::(\d+))?', device)
    if not match:
        raise UserError(
            f'device: expected cpu, cuda or cuda:N, got {device!r}'
        )
    count = torch.cuda.device_count()
    kind, index = match.groups()
    if kind == 'cuda' and int(index or 0) >= count:
        raise UserError(
            f'device: {device} was requested, but PyTorch finds {count} CUDA '
            'devices; use --device cpu to measure the CPU'
        )
    return 'cpu' if kind == 'cpu' else device


def add_options(
    parser: argparse.ArgumentParser, threads: int | None, mode: str | None
) -> None:
    """Add the options that `settings_of` reads.

    Args:
        parser: must have the type ``'count'`` registered.
        threads: default number of CPU threads; None for all cores.
        mode: default mode; None to offer no choice of mode.
    """
    add = parser.add_argument
    add('--device', default='cpu', help='cpu, cuda or cuda:N; default: cpu')
    threads = threads or os.cpu_count()
    text = f'CPU threads; default: {threads}'
    add('--threads', type='count', default=threads, help=text)
    several = dict(nargs='+', choices=PRECISIONS, default=['fp32'])
    add('--precision', **several, help='default: fp32, TF32 off')
    text = (
        'memory layout of feature maps; default: contiguous for fp32 and tf32 '
        'on a GPU, channels_last otherwise; ops: contiguous'
    )
    add('--layout', choices=LAYOUTS, help=text)
    if mode:
        text = '; '.join(f'{name}: {what}' for name, what in MODES.items())
        several = dict(nargs='+', choices=MODES, default=[mode])
        add('--mode', **several, help=f'{text}; default: {mode}')
    text = 'cpu: CPU time of all threads, for busy machines; default: wall'
    add('--clock', choices=CLOCKS, default='wall', help=text)


def settings_of(args: argparse.Namespace) -> list[Setting]:
    """Return all combinations of settings that the arguments request.

    Raises:
        UserError: the device does not support a combination.
    """
    found = []
    modes = getattr(args, 'mode', ['eager'])
    for precision, mode in product(args.precision, modes):
        fp32 = PRECISIONS[precision] == torch.float32
        contiguous = fp32 and args.device != 'cpu'
        layout = 'contiguous' if contiguous else 'channels_last'
        rest = precision, args.layout or layout, mode, args.clock
        found.append(Setting(args.device, args.threads, *rest))
    return found
