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
SHARE_TO_USE = 0.95


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that something does not fit in memory."""
    return isinstance(error, MemoryError) or bool(
        isinstance(error, RuntimeError | OSError)
        and OUT_OF_MEMORY.search(str(error))
    )


def weights_mb(network: nn.Module) -> float:
    """Parameters and buffers of a network."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(t.nbytes for t in tensors) / 1e6


def peak_mb(function: Callable[[], object], device: str) -> float:
    """The most that a call has allocated at a time, above what was before.

    On a GPU and on the CPU it is what PyTorch's allocator handed out: maps,
    gradients and workspaces, not the memory of libraries.
    """
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True
    ) as recorded:
        result = function()
        del result
    held = peak = 0
    # The public event lists hold sums over operators only.
    for event in recorded.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 1e6


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
    taken = _bytes_of('/proc/self/status', 'VmData')
    if room is None:
        room = _available_bytes()
    if taken is None or room is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = taken + int(room * SHARE_TO_USE)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _available_bytes() -> int | None:
    """What can still be had without swapping, in this control group."""
    found = _bytes_of('/proc/meminfo', 'MemAvailable')
    try:
        limit, used = (
            int(Path('/sys/fs/cgroup', f'memory.{name}').read_text())
            for name in ('max', 'current')
        )
    except (OSError, ValueError):
        # There is none, or it has no limit.
        return found
    return limit - used if found is None else min(found, limit - used)


def _bytes_of(path: str, name: str) -> int | None:
    """What stands after a name in a file of ``/proc``."""
    if not Path(path).is_file():
        return None
    found = re.search(rf'^{name}:\s+(\d+) kB', Path(path).read_text(), re.M)
    return int(found.group(1)) * 1024 if found else None
