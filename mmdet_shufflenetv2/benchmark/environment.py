"""What a measurement was taken on."""

import datetime
import os
import platform
from pathlib import Path

import torch


def cpu_name(cpuinfo: Path = Path('/proc/cpuinfo')) -> str:
    """Return the processor's name as the system tells it."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors='replace').splitlines():
            key, _, value = line.partition(':')
            if key.strip() == 'model name' and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or 'unknown'


def describe(device: str = 'cpu') -> dict[str, object]:
    """Return the environment as columns of a record.

    ``load`` is the system's load average over the last minute: well above
    the benchmark's own threads it means that the machine was busy.
    """
    on_gpu = torch.device(device).type == 'cuda'
    return {
        'device': torch.cuda.get_device_name(device) if on_gpu else 'cpu',
        'cpu': cpu_name(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'load': round(os.getloadavg()[0], 1),
        'torch': torch.__version__,
        'python': platform.python_version(),
        'date': datetime.date.today().isoformat(),
    }
