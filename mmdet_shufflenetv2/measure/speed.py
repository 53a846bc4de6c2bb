"""Speed, memory and energy of a network beside those of a reference."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import torch
from torch import nn

from .benchmark import Row, Time
from .memory import peak_mb, weights_mb
from .networks import inference, prepare
from .setting import Setting
from .timing import TIMED, Timing, compared, ratio_names, significant

NOT_MEASURED = 'not measured'
SPEEDS = (
    *TIMED,
    *ratio_names('speed_ratio'),
    'images_per_s',
    'paper_per_s',
    'paper_speed_ratio',
    'weights_mb',
    'peak_mb',
    'joules',
)
# A GPU's counter of energy moves some ten times a second.
ENERGY_SECONDS = 1.0


@dataclass(frozen=True)
class Network:
    """A network to be measured.

    Attributes:
        name: tells it from others.
        build: makes it, in float32.
        shape: (N, C, H, W) of its input.
        small_shape: of maps that it can be tried on cheaply.
    """

    name: str
    build: Callable[[], nn.Module] = field(compare=False)
    shape: tuple[int, int, int, int]
    small_shape: tuple[int, int, int, int] = (8, 3, 64, 64)


# A reference stays, for it is everybody's in its column.
@lru_cache(maxsize=2)
def _prepared(network: Network, setting: Setting) -> nn.Module:
    # The same weights for a name, whatever was built before it.
    torch.manual_seed(0)
    with torch.device(setting.device):
        built = network.build()
    return prepare(built, setting, network.small_shape)


def measure_network(
    time: Time,
    mine: Network,
    reference: Network | None,
    setting: Setting,
    with_energy: bool,
) -> list[Row]:
    """Measure a network, timed in turn with its reference if it has one."""
    built = {
        each: _prepared(each, setting)
        for each in filter(None, (reference, mine))
    }
    functions = {
        each: inference(network, each.shape, setting)
        for each, network in built.items()
    }
    times = time(functions)
    plain = functions[mine]
    if setting.mode == 'graph':
        # A graph's maps are not the allocator's, those of its pass are.
        eager = replace(setting, mode='folded')
        plain = inference(built[mine], mine.shape, eager)
    return [
        {
            **speed(times[mine], times.get(reference), mine.shape[0]),
            'weights_mb': significant(weights_mb(built[mine])),
            'peak_mb': significant(peak_mb(plain, setting.device)),
            'joules': joules(functions[mine], setting, with_energy),
        }
    ]


def speed(mine: Timing, reference: Timing | None, batch: int) -> Row:
    """Times, their ratio to a reference's if any, and images per second."""
    columns = mine.columns()
    ratio = compared('speed_ratio', reference or mine, mine)
    if reference is None:
        ratio = {'warning': ratio['warning']}
    return {
        **columns,
        **ratio,
        'images_per_s': significant(batch * 1e3 / columns['median_ms']),
    }


def joules(
    function: Callable[[], object], setting: Setting, wanted: bool = True
) -> float | str:
    """Energy of one call, or that it was not measured."""
    if not wanted:
        return NOT_MEASURED
    try:
        counter = energy_counter(setting.device)
    except RuntimeError:
        return NOT_MEASURED
    wait = partial(torch.cuda.synchronize, setting.device)
    return significant(joules_per_run(function, counter, wait))


def energy_counter(device: str) -> Callable[[], float]:
    """What tells the joules that a GPU has drawn since its driver was loaded.

    Raises:
        RuntimeError: there is none; says why.
    """
    if torch.device(device).type != 'cuda':
        raise RuntimeError('only GPUs of NVIDIA have a counter')
    try:
        import pynvml
    except ImportError as error:
        raise RuntimeError('needs pip install nvidia-ml-py') from error
    uuid = getattr(torch.cuda.get_device_properties(device), 'uuid', None)
    if uuid is None:
        raise RuntimeError('this PyTorch does not tell a GPU by its UUID')
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f'GPU-{uuid}')
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        raise RuntimeError(f'this GPU counts none: {error}') from error
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


def joules_per_run(
    function: Callable[[], object],
    joules: Callable[[], float],
    wait: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    seconds: float = ENERGY_SECONDS,
) -> float:
    """Energy of one call, the mean over as many as fill ``seconds``.

    It is all that the device draws meanwhile, idle power included.

    Args:
        function: what to call.
        joules: what the device has drawn so far.
        wait: returns when the device has done its work.
        clock: seconds.
        seconds: how long to go on.
    """
    wait()
    start, before = clock(), joules()
    runs = 0
    while not runs or clock() - start < seconds:
        function()
        wait()
        runs += 1
    return (joules() - before) / runs
