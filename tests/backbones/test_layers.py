"""Channel shuffle: the order of channels, the layout, the gradient."""

import pytest
import torch

from mmdet_shufflenetv2.backbones.layers import (
    channel_shuffle,
    interleave,
    split_even_odd,
)

LAST = torch.channels_last


def test_channel_shuffle_takes_from_each_group_in_turn():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    shuffled = channel_shuffle(x, groups=3).flatten().tolist()
    assert shuffled == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize('groups', [1, 2, 3, 6])
def test_a_shuffle_keeps_the_layout_and_moves_the_same_channels(groups):
    x = torch.rand(2, 12, 3, 5)
    last = x.contiguous(memory_format=LAST).requires_grad_()
    shuffled = channel_shuffle(last, groups)
    assert torch.equal(shuffled, channel_shuffle(x, groups))
    # Or the convolution that receives the gradient would convert it.
    for tensor in (
        shuffled,
        *torch.autograd.grad(shuffled, last, torch.ones_like(shuffled)),
    ):
        assert tensor.is_contiguous(memory_format=LAST)


@pytest.mark.parametrize('layout', [torch.contiguous_format, LAST])
@pytest.mark.parametrize('size', [(1, 1), (2, 3)])
def test_interleave_is_a_shuffled_concatenation_that_can_be_split(
    layout, size
):
    x = torch.rand(2, 6, *size, dtype=torch.double)
    x = x.contiguous(memory_format=layout).requires_grad_()
    # A view, like the half of a map that a unit passes on.
    first, second = x.chunk(2, dim=1)
    second = second.contiguous(memory_format=layout)
    result = interleave(first, second)
    assert torch.equal(result, channel_shuffle(x, groups=2))
    assert result.is_contiguous(memory_format=layout)
    even, odd = split_even_odd(result)
    assert torch.equal(even, first)
    assert torch.equal(odd, second)
    assert torch.autograd.gradcheck(interleave, (first, second))
