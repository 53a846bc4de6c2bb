"""What a measurement is made under. Needs PyTorch alone."""

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

# Products of 32 bits may use TF32 if that is what the precision is called.
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
# How a network runs; the paper's protocol fuses element-wise operations.
MODES = {
    'eager': 'as written',
    'folded': 'batch norm folded into convolutions',
    'graph': 'folded, and replayed as a CUDA graph',
    'compiled': 'torch.compile',
}
# Columns that tell when and from what, not on what: a measurement is not
# repeated because of them.
CIRCUMSTANCES = ('cores', 'load', 'python', 'commit', 'date')


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
        ValueError: an attribute is not one of the allowed values, or (a
            `UserError`) does not work on this device.
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
        others = [('clock', 'cpu')]
        if not self.on_gpu:
            others = [('precision', 'tf32'), ('mode', 'graph')]
        for name, value in others:
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
        """The type of weights and maps."""
        return PRECISIONS[self.precision]

    def apply(self) -> None:
        """Bring PyTorch into this setting."""
        torch.set_num_threads(self.threads)
        # Denormal numbers, which random weights make and trained ones
        # hardly, are 100 times slower on a CPU.
        torch.set_flush_denormal(True)
        if self.on_gpu:
            torch.cuda.set_device(torch.device(self.device).index or 0)
            tf32 = self.precision == 'tf32'
            torch.backends.cuda.matmul.allow_tf32 = tf32
            torch.backends.cudnn.allow_tf32 = tf32
            torch.backends.cudnn.benchmark = True

    def stopwatch(self) -> Stopwatch:
        """How calls are timed."""
        if self.on_gpu:
            return cuda_stopwatch(self.device)
        return host_stopwatch(CLOCKS[self.clock])


def describe(setting: Setting) -> dict[str, object]:
    """Return setting and machine as columns of a record.

    ``load`` is the system's load average over the last minute: well above
    the benchmark's own threads it means that the machine was busy.
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
    """The checkout's commit, ``+`` if changed; else the version."""
    found = ''
    for command in (
        # An installed copy may lie in somebody else's repository.
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
    """The device's name, ``'cpu'`` for ``'cpu:0'``.

    Raises:
        UserError: it is not there.
    """
    name = re.fullmatch(r'(cpu|cuda)(?::(\d+))?', device)
    if not name:
        raise UserError(
            f'device: expected cpu, cuda or cuda:N, got {device!r}'
        )
    count = torch.cuda.device_count()
    if name[1] == 'cuda' and int(name[2] or 0) >= count:
        raise UserError(
            f'device: {device} was asked for, but PyTorch finds {count} '
            'CUDA devices here; --device cpu measures the processor'
        )
    return 'cpu' if name[1] == 'cpu' else device


def add_options(
    parser: argparse.ArgumentParser, threads: int | None, mode: str | None
) -> None:
    """Add the options that `settings_of` reads.

    Args:
        parser: has the type ``'count'``.
        threads: of the CPU, by default; None for all cores.
        mode: by default; None if there is no choice.
    """
    add = parser.add_argument
    add('--device', default='cpu', help='cpu, cuda or cuda:N; default: cpu')
    threads = threads or os.cpu_count()
    text = f'CPU threads; default: {threads}'
    add('--threads', type='count', default=threads, help=text)
    several = dict(nargs='+', choices=PRECISIONS, default=['fp32'])
    add('--precision', **several, help='default: fp32, TF32 off')
    text = (
        'of maps in memory; default: contiguous for 32 bits on a GPU, '
        'channels_last otherwise; ops: both'
    )
    add('--layout', choices=LAYOUTS, help=text)
    if mode:
        text = '; '.join(f'{name}: {what}' for name, what in MODES.items())
        several = dict(nargs='+', choices=MODES, default=[mode])
        add('--mode', **several, help=f'{text}; default: {mode}')
    text = 'cpu: time of all threads, for a busy machine'
    add('--clock', choices=CLOCKS, default='wall', help=text)


def settings_of(args: argparse.Namespace) -> list[Setting]:
    """The settings that the arguments ask for.

    Raises:
        UserError: a combination is impossible.
    """
    found = []
    modes = getattr(args, 'mode', ['eager'])
    for precision, mode in product(args.precision, modes):
        wide = PRECISIONS[precision] == torch.float32 and args.device != 'cpu'
        layout = args.layout or ('contiguous' if wide else 'channels_last')
        rest = precision, layout, mode, args.clock
        found.append(Setting(args.device, args.threads, *rest))
    return found
