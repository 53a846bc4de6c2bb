"""Speed, memory and energy of a network beside those of a reference."""

import time
from collections.abc import Callable

import torch
from torch import nn

from .benchmark import Row
from .memory import peak_mb, weights_mb
from .timing import Timing, significant, timed, timed_columns

NOT_MEASURED = 'not measured'
SPEEDS = (
    *timed_columns('speed_ratio'),
    'images_per_s',
    'paper_per_s',
    'paper_speed_ratio',
    'weights_mb',
    'peak_mb',
    'joules',
)
# A GPU's counter of energy moves some ten times a second.
ENERGY_SECONDS = 1.0


def speed(
    mine: Timing,
    reference: Timing | None,
    images: int,
    network: nn.Module,
    run: Callable[[], object],
    plain: Callable[[], object],
    device: str,
    with_energy: bool,
) -> Row:
    """The measured columns of `SPEEDS`.

    Args:
        mine: times of the network.
        reference: of what it is compared with, if it is.
        images: of one call.
        network: whose weights count.
        run: one call.
        plain: the same, not as a CUDA graph, whose maps are not those of the
            allocator.
        device: of the call.
        with_energy: whether to measure it where there is a counter.
    """
    columns = timed(mine, 'speed_ratio', reference or mine, mine)
    if reference is None:
        for name in 'speed_ratio', 'speed_ratio_p10', 'speed_ratio_p90':
            del columns[name]
    counter = energy_counter(device) if with_energy else None
    return {
        **columns,
        'images_per_s': significant(images * 1e3 / columns['median_ms']),
        'weights_mb': significant(weights_mb(network)),
        'peak_mb': significant(peak_mb(plain, device)),
        'joules': joules(run, counter, device) if counter else NOT_MEASURED,
    }


def energy_counter(device: str) -> Callable[[], float] | None:
    """What tells the joules that a GPU has drawn, if anything does."""
    if torch.device(device).type != 'cuda':
        return None
    try:
        import pynvml
    except ImportError:
        return None
    # Older versions of PyTorch do not tell it.
    uuid = getattr(torch.cuda.get_device_properties(device), 'uuid', None)
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f'GPU-{uuid}')
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


def joules(
    run: Callable[[], object],
    counter: Callable[[], float],
    device: str,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Energy of one call, the mean over as many as fill `ENERGY_SECONDS`.

    It is all that the device draws meanwhile, idle power included.
    """

    def wait() -> None:
        if torch.device(device).type == 'cuda':
            torch.cuda.synchronize(device)

    wait()
    start, before, runs = clock(), counter(), 0
    while not runs or clock() - start < ENERGY_SECONDS:
        run()
        wait()
        runs += 1
    return significant((counter() - before) / runs)
