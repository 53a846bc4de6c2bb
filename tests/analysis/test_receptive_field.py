import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from mmdet_shufflenetv2.analysis.receptive_field import (
    PROBE,
    Field,
    gradient_maps,
    theoretical_fields,
)


class Net(nn.Module):
    """A function of some layers and an image."""

    def __init__(self, function, **layers):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.function = function

    def forward(self, x):
        return self.function(self.layers, x)


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


def conv(kernel, **options):
    return nn.Conv2d(3, 3, kernel, **options)


@pytest.mark.parametrize(
    'function, size, stride',
    [
        # The wider of two branches counts.
        (lambda m, x: torch.cat((m['b'](x), m['a'](x)), 1), 5, 1),
        (lambda m, x: torch.maximum(m['a'](x) + 9, m['b'](x)), 5, 1),
        (lambda m, x: torch.minimum(m['a'](x), m['b'](x) + 9), 5, 1),
        # Signs, zeros and what is negative hide nothing.
        (lambda m, x: -m['b'](x).relu() - 3, 5, 1),
        (lambda m, x: 0 * m['zero'](x) + m['b'](x).clamp(0, 0.1), 5, 1),
        (lambda m, x: F.silu(m['b'](x)) * m['b'](x).sigmoid(), 5, 1),
        # Maps of a quarter are enlarged again.
        (lambda m, x: F.interpolate(m['c'](x), scale_factor=2), 4, 2),
        (lambda m, x: m['up'](m['c'](x)), 8, 2),
        (lambda m, x: F.max_pool2d(x, 3, 2, 1, 2), 5, 2),
        (lambda m, x: m['d'](x), 31, 24),
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
    )
    assert field_of(network) == Field((size, size), (stride, stride))


def test_a_deformable_convolution_sees_what_a_plain_one_does():
    def deform(layers, x):
        layer = layers['conv']
        offset = layers['offset'](x)
        return torchvision.ops.deform_conv2d(
            x, offset, layer.weight, layer.bias, padding=1
        )

    network = Net(
        deform, conv=nn.Conv2d(3, 4, 3), offset=nn.Conv2d(3, 18, 3, padding=1)
    )
    assert field_of(network).size == (3, 3)


@pytest.mark.parametrize(
    'function',
    [
        lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
        lambda x: (
            F.scaled_dot_product_attention(*[x.flatten(2).transpose(1, 2)] * 3)
            .transpose(1, 2)
            .view_as(x)
        ),
    ],
)
def test_what_sees_the_whole_image_is_larger_than_the_probe(function):
    field = field_of(Net(lambda m, x: function(F.avg_pool2d(x, 32))))
    assert field.is_larger
    assert field.size == (PROBE, PROBE)


def test_a_network_of_one_size_of_images_is_probed_at_that_size():
    def fixed(layers, x):
        assert x.shape[-2:] == (40, 24)
        return layers['conv'](x)

    narrow = Net(fixed, conv=nn.Conv2d(3, 3, 5))
    assert field_of(narrow, (40, 24)) == Field((5, 5), (1, 1))
    wide = Net(fixed, conv=nn.Conv2d(3, 3, 35, padding=17))
    assert field_of(wide, (40, 24)) == Field((35, 24), (1, 1), True)


def test_gradients_come_from_within_the_theoretical_field():
    """With positive weights and no padding from all of it."""
    network = nn.Sequential(nn.Conv2d(3, 1, 5, stride=2), nn.Conv2d(1, 1, 3))
    for parameter in network.parameters():
        parameter.data.fill_(1.0)
    image = torch.randn(1, 3, 33, 33)
    found = gradient_maps(network, image, level, samples=2)['level']
    height, width = field_of(network).size
    assert (found > 0).any(1).sum() == height
    assert (found > 0).any(0).sum() == width
    assert found.max() == 1
