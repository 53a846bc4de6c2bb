import torch
from torch import nn

from mmdet_shufflenetv2.analysis import operations
from mmdet_shufflenetv2.analysis.layers import (
    layers_of,
    parallel_branches,
)
from mmdet_shufflenetv2.analysis.recording import record

IMAGE = torch.randn(1, 4, 4, 4)


def conv() -> nn.Module:
    return nn.Conv2d(2, 2, 1)


class Inception(nn.Module):
    """Branches of one, two and one convolutions, then one over their sum."""

    def __init__(self):
        super().__init__()
        self.a, self.c, self.after = conv(), conv(), conv()
        self.b = nn.Sequential(conv(), conv())

    def forward(self, x):
        return self.after(self.a(x) + self.b(x) + self.c(x))


def branches(network: nn.Module) -> dict[str, int]:
    recorded = record(network, lambda: network(torch.ones(1, 2, 4, 4)))
    found = parallel_branches(recorded)
    return {recorded[index].owner: width for index, width in found.items()}


def test_a_chain_has_one_branch():
    found = branches(nn.Sequential(conv(), nn.ReLU(inplace=True), conv()))
    assert found == {'0': 1, '2': 1}


def test_branches_of_a_block_count_and_what_follows_does_not():
    found = branches(Inception())
    assert found == {'a': 3, 'b.0': 3, 'b.1': 3, 'c': 3, 'after': 1}


def test_blocks_one_after_the_other_do_not_add_up():
    network = nn.Sequential(Inception(), Inception())
    assert set(branches(network).values()) == {3, 1}


def test_lateral_connections_do_not_fragment_the_backbone():
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(conv(), conv())
            self.neck = nn.ModuleList([conv(), conv()])

        def forward(self, x):
            low = self.backbone[0](x)
            return self.neck[0](low), self.neck[1](self.backbone[1](low))

    found = branches(Pyramid())
    assert found['backbone.1'] == 1
    assert found['neck.0'] == found['neck.1'] == 2


def test_layers_are_modules_and_functions_between_them(unit):
    recorded = record(unit, lambda: unit(IMAGE))
    layers = layers_of(unit, recorded)
    assert [layer.name for layer in layers] == [
        'conv',
        'bn',
        'relu',
        '(root):shuffle',
    ]
    assert [layer.kind for layer in layers] == [
        operations.CONVOLUTION,
        operations.ELEMENTWISE,
        operations.ELEMENTWISE,
        operations.SHUFFLE,
    ]
    conv, norm, _, shuffle = layers
    assert (conv.params, conv.flops) == (64, 16 * 4 * 16)
    assert conv.in_shape == (1, 4, 4, 4)
    assert norm.params == 32
    assert shuffle.bytes == 2 * 4 * 256
    assert shuffle.out_shape == (1, 16, 4, 4)


def test_every_operation_is_in_exactly_one_layer(unit):
    recorded = record(unit, lambda: unit(IMAGE))
    layers = layers_of(unit, recorded)
    indices = [i for layer in layers for i in layer.operations]
    assert sorted(indices) == list(range(len(recorded)))


class Function(nn.Module):
    """What a network does between the calls of its modules."""

    def __init__(self):
        super().__init__()
        self.module = nn.Identity()

    def forward(self, x):
        return torch.cat((x, x)).add(1).chunk(2)[0] * 2


def test_a_function_is_split_where_its_work_changes():
    network = Function()
    x = torch.ones(2, 2)
    recorded = record(network, lambda: network(x))
    found = [layer.kind for layer in layers_of(network, recorded)]
    assert found == [operations.DATA, operations.ELEMENTWISE]
