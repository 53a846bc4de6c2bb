"""What a measurement was taken on."""

import datetime
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

from .. import __version__
from .setting import Setting

# Columns that tell when and from what, not on what: a measurement is not
# repeated because of them.
CIRCUMSTANCES = ('cores', 'load', 'python', 'commit', 'date')


def cpu_name(cpuinfo: Path = Path('/proc/cpuinfo')) -> str:
    """Return the processor's name as the system tells it."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors='replace').splitlines():
            key, _, value = line.partition(':')
            if key.strip() == 'model name' and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or 'unknown'


@cache
def commit(file: Path = Path(__file__)) -> str:
    """Return the commit a file is of, or the version of an installed copy.

    ``+`` after it says that tracked files were changed since.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ['git', '-C', str(file.parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.strip()

    try:
        # An installed copy may lie in somebody else's repository.
        git('ls-files', '--error-unmatch', file.name)
        changed = git('status', '--porcelain', '--untracked-files=no')
        return git('rev-parse', '--short=9', 'HEAD') + '+' * bool(changed)
    except (OSError, subprocess.SubprocessError):
        return f'version {__version__}'


def describe(setting: Setting) -> dict[str, object]:
    """Return the environment as columns of a record.

    ``load`` is the system's load average over the last minute: well above
    the benchmark's own threads it means that the machine was busy.
    """
    load = ''
    if hasattr(os, 'getloadavg'):
        load = round(os.getloadavg()[0], 1)
    device = 'cpu'
    if setting.on_gpu:
        device = torch.cuda.get_device_name(setting.device)
    return {
        'device': device,
        'cpu': cpu_name(),
        'threads': setting.threads,
        'precision': setting.precision,
        'layout': setting.layout,
        'mode': setting.mode,
        'clock': 'events' if setting.on_gpu else setting.clock,
        'torch': torch.__version__,
        'cores': os.cpu_count(),
        'load': load,
        'python': platform.python_version(),
        'commit': commit(),
        'date': datetime.date.today().isoformat(),
    }
