"""Speed, memory and energy of a network, compared with a reference."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import nn

from .benchmark import Row, Time
from .memory import peak_mb, weights_mb
from .setting import Setting
from .timing import significant, timed, timed_columns

NOT_MEASURED = 'not measured'
SPEEDS = (
    *timed_columns('speed_ratio'),
    *('images_per_s', 'paper_per_s', 'paper_speed_ratio'),
    *('weights_mb', 'peak_mb', 'joules'),
)
# GPUs update their energy counter only about ten times a second.
ENERGY_SECONDS = 1.0


def speed(
    time: Time,
    build: Callable[[Any], tuple[nn.Module, Callable[[], object]]],
    mine: Any,
    reference: Any,
    images: int,
    setting: Setting,
    with_energy: bool,
) -> Row:
    """Measure the columns of `SPEEDS`.

    Args:
        time: times the competitors in turn.
        build: returns a competitor's network and a function that runs it.
        mine, reference: competitors; without a reference, no ratio.
        images: number of images per run.
        setting: the setting to measure under.
        with_energy: also measure joules, on a GPU that counts them.
    """
    built = {each: build(each) for each in (reference, mine) if each}
    times = time({each: run for each, (_, run) in built.items()})
    network, run = built[mine]
    row = timed(times[mine], 'speed_ratio', times.get(reference), times[mine])
    counter = energy_counter(setting) if with_energy else None
    return {
        **row,
        'images_per_s': significant(images * 1e3 / row['median_ms']),
        'weights_mb': significant(weights_mb(network)),
        'peak_mb': significant(peak_mb(run, setting.device)),
        'joules': joules(run, counter) if counter else NOT_MEASURED,
    }


def energy_counter(setting: Setting) -> Callable[[], float] | None:
    """Return a function that reads a GPU's energy in joules, if possible."""
    if not setting.on_gpu:
        return None
    try:
        import pynvml
    except ImportError:
        return None
    properties = torch.cuda.get_device_properties(setting.device)

    def counter() -> float:
        torch.cuda.synchronize(setting.device)
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3

    try:
        pynvml.nvmlInit()
        # Older versions of PyTorch do not have the property.
        uuid = f'GPU-{getattr(properties, "uuid", None)}'
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        counter()
    except pynvml.NVMLError:
        return None
    return counter


def joules(
    run: Callable[[], object],
    counter: Callable[[], float],
    clock: Callable[[], float] = perf_counter,
) -> float:
    """Return the mean energy of one call, over `ENERGY_SECONDS` of calls.

    This is all the energy that the device draws, idle power included. The
    counter waits for the device and returns its total so far.
    """
    before, start, runs = counter(), clock(), 0
    while not runs or clock() - start < ENERGY_SECONDS:
        run()
        after = counter()
        runs += 1
    return significant((after - before) / runs)
