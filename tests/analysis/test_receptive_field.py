import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdet_shufflenetv2.analysis.receptive_field import (
    Field,
    effective_size,
    gradient_maps,
    gradients_or_problem,
    receptive_fields,
    theoretical_fields,
)


def field_of(network, size=(32, 32)) -> Field:
    image = torch.randn(1, 3, *size)
    levels = theoretical_fields(lambda x: {'level': network(x)}, image)
    return levels['level']


def test_a_chain_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),  # 3, stride 2
        nn.MaxPool2d(3, stride=2, padding=1),  # 3 + 2 * 2 = 7, stride 4
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),  # 7 + 4 * 4 = 23
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),  # 23 + 4 = 27, stride 8
        nn.Conv2d(4, 4, 1),
    )
    assert field_of(network) == Field((27, 27), (8, 8))


def test_sides_differ_where_kernels_do():
    network = nn.Sequential(
        nn.Conv2d(3, 3, (15, 1)), nn.Conv2d(3, 3, (1, 5), stride=(1, 2))
    )
    assert field_of(network) == Field((15, 5), (1, 2))


def test_the_widest_branch_counts():
    narrow, wide = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 5, padding=2)
    assert field_of(lambda x: narrow(x) + wide(x)).size == (5, 5)
    joined = field_of(lambda x: torch.cat((wide(x), narrow(x)), 1))
    assert joined.size == (5, 5)


def test_views_and_shuffles_keep_the_field():
    conv = nn.Conv2d(3, 4, 3)

    def network(x):
        return conv(x).unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)

    assert field_of(network) == Field((3, 3), (1, 1))


def test_enlarging_a_map_reduces_its_stride():
    conv = nn.Conv2d(3, 3, 4, stride=4)
    nearest = field_of(lambda x: F.interpolate(conv(x), scale_factor=2))
    assert nearest == Field((4, 4), (2, 2))
    linear = field_of(
        lambda x: F.interpolate(conv(x), scale_factor=2, mode='bilinear')
    )
    assert linear == Field((8, 8), (2, 2))
    transposed = nn.ConvTranspose2d(3, 3, 3, stride=2)
    assert field_of(lambda x: transposed(conv(x))) == Field((8, 8), (2, 2))


def test_a_squeeze_sees_the_whole_image_beside_the_local_field():
    conv = nn.Conv2d(3, 3, 3)

    def network(x):
        x = conv(x)
        return x * x.mean((2, 3), keepdim=True).sigmoid()

    assert field_of(network) == Field((3, 3), (1, 1), whole_by='mean')


def test_attention_sees_the_whole_image():
    def network(x):
        tokens = x.flatten(2).transpose(1, 2)
        return F.scaled_dot_product_attention(tokens, tokens, tokens)

    assert field_of(network).whole_by is not None


def test_what_does_not_depend_on_the_image_has_no_field():
    assert field_of(lambda x: torch.ones(1, 3, 4, 4)) is None


@pytest.mark.parametrize('kernel', [2, 3, 5])
def test_gradients_come_from_within_the_theoretical_field(kernel):
    """With positive weights and no padding from all of it."""
    network = nn.Sequential(
        nn.Conv2d(3, 1, kernel, stride=2), nn.Conv2d(1, 1, 3)
    )
    for parameter in network.parameters():
        parameter.data.fill_(1.0)
    image = torch.randn(1, 3, 33, 33)
    maps = gradient_maps(lambda x: {'level': network(x)}, image, samples=2)
    (height, width) = field_of(network, (33, 33)).size
    seen = maps['level'] > 0
    assert seen.any(1).sum() == height
    assert seen.any(0).sum() == width
    assert maps['level'].max() == 1


def test_effective_field_of_a_flat_kernel_is_all_of_it():
    network = nn.Conv2d(3, 1, 5)
    network.weight.data.fill_(1.0)
    image = torch.randn(1, 3, 15, 15)
    maps = gradient_maps(lambda x: {'level': network(x)}, image, samples=1)
    assert effective_size(maps['level']) == 5


def test_effective_field_leaves_out_what_hardly_counts():
    gradients = torch.full((9, 9), 0.04)
    gradients[4, 4], gradients[4, 5:8] = 1.0, 0.05
    assert effective_size(gradients) == 2


def test_gradients_are_the_same_in_every_run():
    network = nn.Conv2d(3, 4, 3)
    image = torch.randn(1, 3, 9, 9)
    first, second = (
        gradient_maps(lambda x: {'level': network(x)}, image, samples=2)
        for _ in range(2)
    )
    assert torch.equal(first['level'], second['level'])
    assert network.weight.grad is None


def test_a_gradient_that_fails_says_why_in_a_short_line():
    conv = nn.Conv2d(3, 4, 3)

    def features(x):
        x = conv(x).sigmoid()
        # What the sigmoid keeps for its gradient is overwritten.
        return {'level': x, 'same': x.mul_(2)}

    maps, problem = gradients_or_problem(features, torch.zeros(1, 3, 9, 9), 1)
    assert not maps
    assert 'modified by an inplace operation' in problem
    assert 'Hint' not in problem
    assert len(problem) < 200
    assert '\n' not in problem


class _Unseen(torch.autograd.Function):
    """Work that PyTorch does not see, as that of compiled extensions."""

    @staticmethod
    def forward(_, x):
        moved = torch.zeros_like(x)
        moved.numpy()[:] = np.roll(x.numpy(), 6, 3)
        return moved

    @staticmethod
    def backward(_, gradient):
        return gradient.roll(-6, 3)


def test_a_field_that_gradients_come_from_outside_of_is_unknown():
    def features(x):
        return {'near': x * 2, 'far': x + _Unseen.apply(x)}

    image = torch.zeros(1, 3, 16, 16)
    fields, maps, problem = receptive_fields(features, image, 1)
    assert fields['near'] == Field()
    assert fields['far'].size is None
    assert fields['far'].unknown == 'its gradient comes from further'
    assert set(maps) == {'near', 'far'}
    assert problem is None
