"""Energy of a GPU's work, where NVIDIA's management library counts it."""

import time
from collections.abc import Callable

import torch

# The counter moves some ten times a second.
SECONDS = 1.0


class EnergyMeter:
    """Joules that a GPU has drawn.

    Args:
        device: ``'cuda'`` or ``'cuda:N'``.

    Raises:
        RuntimeError: there is no counter; says why.
    """

    def __init__(self, device: str):
        if torch.device(device).type != 'cuda':
            raise RuntimeError('only GPUs of NVIDIA have a counter')
        try:
            import pynvml
        except ImportError as error:
            raise RuntimeError('needs pip install nvidia-ml-py') from error
        properties = torch.cuda.get_device_properties(device)
        uuid = getattr(properties, 'uuid', None)
        if uuid is None:
            raise RuntimeError('this PyTorch does not tell a GPU by its UUID')
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f'GPU-{uuid}')
            self._read = pynvml.nvmlDeviceGetTotalEnergyConsumption
            self._read(self._handle)
        except pynvml.NVMLError as error:
            raise RuntimeError(f'this GPU counts none: {error}') from error

    def joules(self) -> float:
        """Energy since the driver was loaded."""
        return self._read(self._handle) / 1e3


def joules_per_run(
    function: Callable[[], object],
    meter: EnergyMeter,
    wait: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    seconds: float = SECONDS,
) -> float:
    """Energy of one call, the mean over as many as fill ``seconds``.

    It is all that the device draws meanwhile, idle power included.

    Args:
        function: what to call.
        meter: has ``joules()``.
        wait: returns when the device has done its work.
        clock: seconds.
        seconds: how long to go on.
    """
    wait()
    start, before = clock(), meter.joules()
    runs = 0
    while not runs or clock() - start < seconds:
        function()
        wait()
        runs += 1
    return (meter.joules() - before) / runs
