"""Operations, their owners and times, and the layers they form."""

from itertools import count

import pytest
import torch
import torch.nn.functional as F
from nets import Net
from torch import nn
from torch.nn.modules import module

from mmdet_shufflenetv2.analysis import operations
from mmdet_shufflenetv2.analysis.layers import layers_of, parallel_branches
from mmdet_shufflenetv2.analysis.recording import record, time_operations
from mmdet_shufflenetv2.measure.timing import Effort, host_stopwatch

IMAGE = torch.randn(1, 4, 4, 4)


def operations_of(network, x):
    return record(network, lambda: network(x)).operations


def test_operations_know_their_module_and_sources(unit):
    recorded = operations_of(unit, IMAGE)
    owners = {op.name: op.owner for op in recorded}
    assert owners['aten::convolution'] == 'conv'
    assert owners['aten::native_batch_norm'] == 'bn'
    assert owners['aten::clone'] == ''
    assert {op.function for op in recorded if not op.owner} == {'shuffle'}
    index = {op.name: i for i, op in enumerate(recorded)}
    norm = recorded[index['aten::native_batch_norm']]
    assert index['aten::convolution'] in norm.sources


def test_recording_does_not_change_what_runs():
    """Transformer layers take another path if they have hooks."""
    network = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(1, 4, 8)
    recorder = record(network, lambda: network(x))
    assert recorder.names == ['aten::_transformer_encoder_layer_fwd']
    assert not module._global_forward_pre_hooks


def conv() -> nn.Module:
    return nn.Conv2d(2, 2, 1)


@pytest.mark.parametrize(
    'network, expected',
    [
        # Branches of one, two and one layers, then one on their sum.
        (
            Net(
                lambda m, x: m.after(m.a(x) + m.b(x) + m.c(x)),
                a=conv(),
                b=nn.Sequential(conv(), conv()),
                c=conv(),
                after=conv(),
            ),
            {'a': 3, 'b.0': 3, 'b.1': 3, 'c': 3, 'after': 1},
        ),
        # A neck is parallel to its backbone, but does not fragment it.
        (
            Net(
                lambda m, x: (m.neck[0](x), m.neck[1](m.backbone(x))),
                backbone=nn.Sequential(conv(), conv()),
                neck=nn.ModuleList([conv(), conv()]),
            ),
            {'backbone.0': 1, 'backbone.1': 1, 'neck.0': 2, 'neck.1': 2},
        ),
    ],
)
def test_branches_that_run_at_the_same_time(network, expected):
    recorded = operations_of(network, torch.ones(1, 2, 4, 4))
    found = parallel_branches(recorded)
    assert {recorded[i].owner: n for i, n in found.items()} == expected


def test_layers_are_modules_and_functions_between_them(unit):
    recorded = operations_of(unit, IMAGE)
    layers = layers_of(unit, recorded)
    assert [(layer.name, layer.kind) for layer in layers] == [
        ('conv', operations.CONVOLUTION),
        ('bn', operations.ELEMENTWISE),
        ('relu', operations.ELEMENTWISE),
        ('(root):shuffle', operations.SHUFFLE),
    ]
    conv, norm, _, shuffle = layers
    assert (conv.params, conv.flops) == (64, 16 * 4 * 16)
    assert conv.in_shape == (1, 4, 4, 4)
    assert norm.params == 32
    assert shuffle.bytes == 2 * 4 * 256
    assert shuffle.out_shape == (1, 16, 4, 4)
    # Every operation is in exactly one layer.
    indices = sorted(i for layer in layers for i in layer.operations)
    assert indices == list(range(len(recorded)))


def test_each_parameter_belongs_to_the_layer_that_reads_it_first():
    class Tied(nn.TransformerEncoderLayer):
        def forward(self, x):
            return F.linear(super().forward(x + self.place), self.again)

    network = Tied(8, 2, 8, batch_first=True).eval()
    network.place = nn.Parameter(torch.ones(4, 8))
    network.again = network.linear1.weight
    layers = layers_of(network, operations_of(network, torch.randn(1, 4, 8)))
    total = sum(p.numel() for p in network.parameters())
    assert sum(layer.params for layer in layers) == total
    assert layers[0].params == 4 * 8


def times_of(run, recorded_run, clock):
    recorded = record(nn.Identity(), recorded_run, count(0, 7).__next__)
    effort = Effort(min_runs=3, max_runs=3, warmup_seconds=1e-9)
    return time_operations(run, recorded, effort, host_stopwatch(clock), clock)


def test_time_between_operations_belongs_to_none():
    # Every reading of the clock takes a second.
    clock, x = count().__next__, torch.ones(2)

    def run():
        y = x + 1
        _ = clock(), clock(), clock()
        return y * 2

    times = times_of(run, run, clock)
    assert times.operations == [[1000.0] * 3] * 2
    assert times.whole_ms.median == 4000


def test_a_pass_with_other_operations_is_dropped():
    turns, x = iter(range(100)), torch.ones(2)

    def run():
        # Whole and timed passes alternate; the first round is warm-up.
        return x.add(1) if next(turns) == 5 else x.mul(2)

    clock = count().__next__
    times = times_of(run, lambda: x.mul(2), clock)
    assert times.repeats
    assert times.operations == [[1000.0] * 2]
    # If no pass matches the recorded one, only the recorded times remain.
    times = times_of(lambda: x + 1, lambda: x.mul(2), clock)
    assert not times.repeats
    assert times.operations == [[7000.0]]
