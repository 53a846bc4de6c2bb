"""An analysis with invented times, so that every figure is known."""

import pytest
import torch
from torch import nn

from mmdet_shufflenetv2.analysis import roofline
from mmdet_shufflenetv2.analysis.advice import FOLDED, MEASURED, Advice
from mmdet_shufflenetv2.analysis.analysis import Analysis
from mmdet_shufflenetv2.analysis.layers import layers_of
from mmdet_shufflenetv2.analysis.receptive_field import Field
from mmdet_shufflenetv2.analysis.recording import Times, record
from mmdet_shufflenetv2.analysis.roofline import Peaks
from mmdet_shufflenetv2.analysis.twins import breaches_of
from mmdet_shufflenetv2.measure.timing import Timing

# The environment of an invented machine.
ENVIRONMENT = {
    **dict(device='cpu', cpu='a CPU', threads=1, precision='fp32'),
    **dict(clock='wall', torch='2', load=0.5, cores=2),
}


class Unit(nn.Module):
    """A 1x1 convolution, batch norm and ReLU, and a shuffle of the result."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 16, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.shuffle(self.relu(self.bn(self.conv(x))))

    def shuffle(self, x):
        return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


@pytest.fixture
def unit() -> nn.Module:
    return Unit().eval()


@pytest.fixture
def small_machine(monkeypatch):
    """Peaks that take no time to measure."""
    monkeypatch.setattr(roofline, '_MATRIX_SIDES', (8,))
    monkeypatch.setattr(roofline, '_COPIED', (2**10, 2**12))


@pytest.fixture
def analysis(unit) -> Analysis:
    """The unit on 4x4 maps: 1 ms per operation, 0.5 ms between them."""
    x = torch.randn(1, 4, 4, 4)
    recorded = record(unit, lambda: unit(x)).operations
    whole = len(recorded) + 0.5
    times = Times(
        Timing([whole, whole], 3, True), [[1.0, 1.0] for _ in recorded]
    )
    layers = layers_of(unit, recorded, times.sum_ms)
    gains = {FOLDED: 4.0, 'contiguous': -1.0, 'compiled': 0.0}
    return Analysis(
        name='unit',
        inputs=[(1, 4, 4, 4)],
        batch=1,
        size=(4, 4),
        environment=ENVIRONMENT,
        is_quick=False,
        is_trained=True,
        times=times,
        layers=layers,
        # A thousand multiply-adds or bytes per millisecond.
        peaks=Peaks(1e-3, ((64, 1e-3), (4096, 1e-3))),
        params=96,
        weights_mb=0.1,
        peak_mb=0.2,
        breaches=breaches_of(layers, lambda own, twin: (2.0, 1.0)),
        ways={k: Advice(ms, f'do {k}', MEASURED) for k, ms in gains.items()},
        fields={'level 0': Field((3, 3), (2, 2))},
        gradients={'level 0': torch.eye(4)},
        not_counted={'torchvision::nms': 2},
        notes=['a note'],
    )
