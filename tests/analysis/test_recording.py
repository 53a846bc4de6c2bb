import pytest
import torch
from torch import nn
from torch.nn.modules import module

from mmdet_shufflenetv2.analysis import operations
from mmdet_shufflenetv2.analysis.layers import (
    layers_of,
    not_counted,
    parallel_branches,
)
from mmdet_shufflenetv2.analysis.recording import record
from mmdet_shufflenetv2.analysis.times import HostLaps, TimedPass
from mmdet_shufflenetv2.backbones.layers import channel_shuffle, interleave

IMAGE = torch.randn(1, 4, 4, 4)


class Block(nn.Module):
    """A function beside a module, as most networks' functions are."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.module = nn.Identity()

    def forward(self, x):
        return self.function(x)


def kinds(function, x) -> list[str]:
    network = Block(function)
    found = [op.kind for op in record(network, lambda: network(x))]
    return [kind for kind in found if kind != operations.VIEW]


def test_operations_know_their_module_and_line(unit):
    recorded = record(unit, lambda: unit(IMAGE))
    owners = {op.name: op.owner for op in recorded}
    assert owners['aten::convolution'] == 'conv'
    assert owners['aten::native_batch_norm'] == 'bn'
    assert owners['aten::relu'] == 'relu'
    assert owners['aten::clone'] == ''
    assert {op.function for op in recorded if not op.owner} == {'shuffle'}
    assert all(op.place.startswith('conftest.py:') for op in recorded)


def test_an_input_comes_from_the_operation_that_wrote_it(unit):
    recorded = record(unit, lambda: unit(IMAGE))
    index = {op.name: i for i, op in enumerate(recorded)}
    norm = recorded[index['aten::native_batch_norm']]
    assert index['aten::convolution'] in norm.sources


def test_calls_of_a_shared_module_are_told_apart():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x):
            return [self.conv(x), self.conv(x[..., :2])]

    head, x = Head(), torch.randn(1, 2, 4, 4)
    recorded = record(head, lambda: head(x))
    first, second = layers_of(head, recorded)[0::2]
    assert (first.name, second.name) == ('conv', 'conv #2')
    assert first.params == 6
    assert second.params == 0


def test_hooks_are_gone_after_recording(unit):
    record(unit, lambda: unit(IMAGE))
    assert not any(m._forward_pre_hooks for m in unit.modules())
    assert not module._global_forward_pre_hooks


def test_what_is_recorded_is_what_runs_otherwise():
    """Transformer layers take another path where they have hooks."""
    network = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(1, 4, 8)
    names = [op.name for op in record(network, lambda: network(x))]
    assert names == ['aten::_transformer_encoder_layer_fwd']
    with torch.no_grad(), TimedPass(HostLaps()) as timed:
        network(x)
    assert timed.names == names


@pytest.mark.filterwarnings('ignore:.*nested tensors.*prototype')
def test_a_transformer_that_leaves_out_padding_is_recorded():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    network = nn.TransformerEncoder(layer, 2).eval()
    padded = torch.tensor([[False, False, True]])
    found = record(
        network,
        lambda: network(torch.randn(1, 3, 8), src_key_padding_mask=padded),
    )
    assert not_counted(found) == {'aten::_transformer_encoder_layer_fwd': 2}
    assert all(layer.bytes >= 0 for layer in layers_of(network, found))


def test_shuffles_are_told_by_what_they_do_or_are_called():
    def anonymous(x):
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)

    x = torch.randn(2, 8, 3, 3)
    last = x.to(memory_format=torch.channels_last)
    for image in (x, last):
        assert kinds(anonymous, image) == [operations.SHUFFLE]
        assert kinds(lambda x: channel_shuffle(x, 2), image) == [
            operations.SHUFFLE
        ]
        assert kinds(lambda x: interleave(x, x), image) == [operations.SHUFFLE]


def test_other_copies_are_no_shuffles():
    x = torch.randn(2, 8, 3, 3)
    assert kinds(lambda x: torch.cat((x, x), 1), x) == [operations.DATA]
    assert kinds(lambda x: x.permute(0, 2, 3, 1).contiguous(), x) == [
        operations.DATA
    ]
    windows = torch.randn(2, 3, 2, 3, 4)
    assert kinds(lambda x: x.transpose(2, 3).contiguous(), windows) == [
        operations.DATA
    ]


def test_what_follows_a_head_is_post_processing():
    class Detector(nn.Module):
        def forward(self, x):
            return self.predict_by_feat(x * 2)

        def predict_by_feat(self, x):
            return x.sort().values

    detector, x = Detector(), torch.randn(5)
    found = record(detector, lambda: detector(x))
    assert [op.kind for op in found] == [
        operations.ELEMENTWISE,
        operations.POST,
    ]
    assert not_counted(found) == {'aten::sort': 1}


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


def test_a_network_in_inference_mode_is_seen_as_any_other(unit):
    def run():
        with torch.inference_mode():
            unit(IMAGE)

    expected = [op.name for op in record(unit, lambda: unit(IMAGE))]
    recorded = record(unit, run)
    assert [op.work.flops for op in recorded if op.work.flops] == [1024]
    assert recorded[0].name == expected[0] == 'aten::convolution'
    with torch.no_grad(), TimedPass(HostLaps()) as timed:
        run()
    assert timed.names == [op.name for op in recorded]


def test_an_operation_of_one_tensor_is_a_layer_whatever_its_name():
    network = Block(lambda x: x.abs().lgamma().digamma().logdet())
    x = torch.eye(4).expand(1, 4, 4)
    layers = layers_of(network, record(network, lambda: network(x)))
    assert layers[0].in_shape == (1, 4, 4)
