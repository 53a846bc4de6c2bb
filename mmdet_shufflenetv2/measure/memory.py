"""How much memory a network takes, and how to find out that it is too much.

MB are 10^6 bytes.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

# What PyTorch, its allocators and libraries say when memory is short.
OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|ALLOC_FAILED|"
    r'bad_alloc|Cannot allocate memory',
    re.IGNORECASE,
)
MEMORY_LEFT_FREE = 0.05


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that something does not fit in memory."""
    return isinstance(error, MemoryError) or bool(
        isinstance(error, RuntimeError | OSError)
        and OUT_OF_MEMORY.search(str(error))
    )


def weights_mb(network: nn.Module) -> float:
    """Parameters and buffers of a network."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors) / 1e6


def peak_mb(function: Callable[[], object], device: str) -> float:
    """The most that a call has allocated at a time, above what was before.

    On a GPU and on the CPU it is what PyTorch's allocator handed out: maps,
    gradients and workspaces, not the memory of libraries.
    """
    if torch.device(device).type != 'cuda':
        return _peak_on_cpu(function) / 1e6
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    function()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def _peak_on_cpu(function: Callable[[], object]) -> int:
    """Bytes, from the allocator's own reports in the order they came."""
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True
    ) as recorded:
        result = function()
        del result
    # The public event lists hold sums over operators only.
    events = recorded.profiler.kineto_results.events()
    held = peak = 0
    for event in events:
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def available_bytes(proc: Path = Path('/proc')) -> int | None:
    """Memory that can still be had without swapping; None if unknown."""
    found = _field(proc / 'meminfo', 'MemAvailable')
    cgroup = Path('/sys/fs/cgroup')
    limit, used = cgroup / 'memory.max', cgroup / 'memory.current'
    if limit.is_file() and used.is_file():
        text = limit.read_text().strip()
        if text.isdecimal():
            room = int(text) - int(used.read_text())
            found = room if found is None else min(found, room)
    return found


@contextmanager
def refused_rather_than_killed(room: int | None = None) -> Iterator[None]:
    """Let an allocation that does not fit fail inside of this process.

    Linux promises memory it does not have and later kills the process that
    uses it; a benchmark has to be told instead, to go on with what is
    smaller. Does nothing on a system without such a limit.

    Args:
        room: bytes that may be taken in addition; what is available by
            default.
    """
    taken = _field(Path('/proc/self/status'), 'VmData')
    if room is None:
        room = available_bytes()
    if taken is None or room is None:
        yield
        return
    import resource

    kind = resource.RLIMIT_DATA
    soft, hard = resource.getrlimit(kind)
    limit = taken + int(room * (1 - MEMORY_LEFT_FREE))
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(kind, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def _field(path: Path, name: str) -> int | None:
    """Bytes behind a name in a file of ``/proc``."""
    if not path.is_file():
        return None
    found = re.search(rf'^{name}:\s+(\d+) kB', path.read_text(), re.M)
    return int(found.group(1)) * 1024 if found else None
