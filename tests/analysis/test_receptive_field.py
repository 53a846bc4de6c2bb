import pytest
import torch
import torch.nn.functional as F
from nets import Net
from torch import nn
from torchvision.ops import deform_conv2d

from mmdet_shufflenetv2.analysis.receptive_field import (
    PROBE,
    Field,
    gradient_maps,
    theoretical_fields,
)


def level(model, image):
    return {'level': model(image)}


def field_of(network, size=(32, 32)) -> Field | None:
    image = torch.randn(1, 3, *size)
    return theoretical_fields(network, image, level).get('level')


def test_a_chain_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),  # 3, stride 2
        nn.MaxPool2d(3, stride=2, padding=1),  # 3 + 2 * 2 = 7, stride 4
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),  # 7 + 4 * 4 = 23
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(4),
        nn.AvgPool2d(2),  # 23 + 4 = 27, stride 8
        nn.Conv2d(4, 4, 1),
    )
    assert field_of(network) == Field((27, 27), (8, 8))


def conv(kernel, out=3, **options):
    return nn.Conv2d(3, out, kernel, **options)


@pytest.mark.parametrize(
    'function, size, stride',
    [
        # The wider of two branches counts.
        (lambda m, x: torch.cat((m.b(x), m.a(x)), 1), 5, 1),
        (lambda m, x: torch.maximum(m.a(x) + 9, m.b(x)), 5, 1),
        # Signs, zeros and negative values hide nothing.
        (lambda m, x: -m.b(x).relu() - 3, 5, 1),
        (lambda m, x: m.a((m.b(x) + 3).relu() - (m.b(x) - 3).relu()), 5, 1),
        (lambda m, x: m.b(x).sigmoid() - (m.b(x) + 1).sigmoid(), 5, 1),
        # Every candidate for a maximum counts.
        (lambda m, x: F.max_pool2d(m.b(x), 3, 1, 1, 1, False, True)[0], 7, 1),
        (lambda m, x: torch.cat((m.a(x), m.b(x)), 1).max(1, True)[0], 5, 1),
        (lambda m, x: torch.stack((m.a(x), m.b(x))).min(dim=0).values, 5, 1),
        (lambda m, x: torch.cat((m.a(x), m.b(x)), 1).topk(1, 1)[0], 5, 1),
        (lambda m, x: 0 * m.zero(x) + m.b(x).clamp(0, 0.1), 5, 1),
        (lambda m, x: F.silu(m.b(x)) * m.b(x).sigmoid(), 5, 1),
        # Maps of a quarter of the size are upsampled.
        (lambda m, x: F.interpolate(m.c(x), scale_factor=2), 4, 2),
        (lambda m, x: m.up(m.c(x)), 8, 2),
        (lambda m, x: m.d(x), 31, 24),
        # A deformable convolution counts with zero offsets.
        (lambda m, x: deform_conv2d(x, m.offset(x), m.e.weight), 3, 1),
    ],
)
def test_by_hand(function, size, stride):
    network = Net(
        function,
        a=conv(1),
        b=conv(5, padding=2),
        c=conv(4, stride=4),
        # Without padding.
        d=conv(31, stride=24),
        up=nn.ConvTranspose2d(3, 3, 3, stride=2),
        zero=conv(1),
        e=conv(3),
        offset=conv(3, 18),
    )
    assert field_of(network) == Field((size, size), (stride, stride))


def attention(x):
    tokens = x.flatten(2).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(tokens, tokens, tokens)
    return mixed.transpose(1, 2).view_as(x)


@pytest.mark.parametrize(
    'function',
    [attention, lambda x: x * x.mean((2, 3), keepdim=True).sigmoid()],
)
def test_a_global_operation_has_a_field_larger_than_the_probe(function):
    field = field_of(Net(lambda m, x: function(F.avg_pool2d(x, 32))))
    assert field.is_larger
    assert field.size == (PROBE, PROBE)


@pytest.mark.parametrize(
    'layer, expected',
    [
        (conv(5), Field((5, 5), (1, 1))),
        (conv(35, padding=17), Field((35, 24), (1, 1), True)),
    ],
)
def test_a_network_with_fixed_image_size_is_probed_at_that_size(
    layer, expected
):
    def fixed(network, x):
        assert x.shape[-2:] == (40, 24)
        return network.layer(x)

    assert field_of(Net(fixed, layer=layer), (40, 24)) == expected


def test_gradients_come_from_within_the_theoretical_field():
    """With positive weights and no padding, from the entire field."""
    network = nn.Sequential(nn.Conv2d(3, 1, 5, stride=2), nn.Conv2d(1, 1, 3))
    for parameter in network.parameters():
        parameter.data.fill_(1.0)
    image = torch.randn(1, 3, 33, 33)
    found = gradient_maps(network, image, level, samples=2)['level']
    height, width = field_of(network).size
    assert (found > 0).any(1).sum() == height
    assert (found > 0).any(0).sum() == width
    assert found.max() == 1
