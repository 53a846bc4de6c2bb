"""Memory that a network needs, and detection of running out of it.

1 MB is 10^6 bytes.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

# Error messages of PyTorch, its allocators and libraries.
OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|ALLOC_FAILED|"
    r'bad_alloc|Cannot allocate memory',
    re.IGNORECASE,
)
SHARE_TO_USE = 0.95


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception reports that something does not fit in memory."""
    return isinstance(error, MemoryError) or bool(
        isinstance(error, RuntimeError | OSError)
        and OUT_OF_MEMORY.search(str(error))
    )


def weights_mb(network: nn.Module) -> float:
    """Size of a network's parameters and buffers, in MB."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(t.nbytes for t in tensors) / 1e6


def peak_mb(function: Callable[[], object], device: str) -> float:
    """Peak memory that a call allocates beyond what was allocated before.

    On GPU and CPU alike this counts PyTorch's allocator: feature maps,
    gradients and workspaces, but not memory that libraries allocate.
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
    # The profiler's public event lists have only sums per operator.
    for event in recorded.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 1e6


@contextmanager
def refused_rather_than_killed(room: int | None = None) -> Iterator[None]:
    """Make allocations that do not fit fail instead of killing the process.

    Linux overcommits memory and later kills the process that uses it. A
    benchmark needs an exception instead, so that it can go on with smaller
    cases. This does nothing on systems without such a limit.

    Args:
        room: bytes that may be allocated in addition; default: all that are
            available.
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
    """Memory available to this control group without swapping."""
    found = _bytes_of('/proc/meminfo', 'MemAvailable')
    try:
        limit, used = (
            int(Path('/sys/fs/cgroup', f'memory.{name}').read_text())
            for name in ('max', 'current')
        )
    except (OSError, ValueError):
        # There is no control group, or it has no limit.
        return found
    return limit - used if found is None else min(found, limit - used)


def _bytes_of(path: str, name: str) -> int | None:
    """Read a named field of a file in ``/proc``, given there in kB."""
    if not Path(path).is_file():
        return None
    found = re.search(rf'^{name}:\s+(\d+) kB', Path(path).read_text(), re.M)
    return int(found.group(1)) * 1024 if found else None
