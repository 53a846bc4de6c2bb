import math

import pytest

from mmdet_shufflenetv2.measure.convolution import (
    Convolution,
    pointwise_memory_access_bound,
)


def test_dense_kernel_by_hand():
    conv = Convolution(3, 8, (10, 6), (5, 3), kernel_size=(3, 5), batch=2)
    assert conv.weights == 3 * 5 * 3 * 8 == 360
    assert conv.flops == 2 * 15 * 360 == 10800
    assert conv.memory_access == 2 * (60 * 3 + 15 * 8) + 360 == 960
    assert conv.memory_access_bound is None


def test_grouped_and_depthwise_kernels_by_hand():
    grouped = Convolution(8, 16, (4, 4), kernel_size=(3, 3), groups=4)
    assert grouped.weights == 9 * 2 * 16 == 288
    assert grouped.flops == 16 * 288
    assert grouped.memory_access == 16 * 24 + 288
    assert not grouped.is_depthwise
    depthwise = Convolution(8, 8, (4, 4), kernel_size=(3, 3), groups=8)
    assert depthwise.is_depthwise
    assert depthwise.flops == 16 * 9 * 8
    assert depthwise.memory_access == 16 * 16 + 72


def test_transposed_kernel_works_per_input_position():
    conv = Convolution(
        4, 2, (3, 3), (6, 6), kernel_size=(2, 2), transposed=True
    )
    assert conv.flops == 9 * 4 * 4 * 2
    assert conv.memory_access == 9 * 4 + 36 * 2 + 32


def test_one_channel_is_not_depthwise():
    assert not Convolution(1, 8, (4, 4), kernel_size=(3, 3)).is_depthwise


@pytest.mark.parametrize('batch', [1, 8])
def test_balanced_pointwise_reaches_the_bound(batch):
    conv = Convolution(128, 128, (56, 56), batch=batch)
    assert conv.memory_access == batch * 56 * 56 * 256 + 128 * 128
    assert conv.memory_access == pytest.approx(conv.memory_access_bound)


@pytest.mark.parametrize('channels', [(90, 180), (52, 312), (36, 432)])
def test_unbalanced_pointwise_stays_above_the_bound(channels):
    """Table 1's widths: more unequal, more access at nearly equal FLOPs."""
    conv = Convolution(*channels, (56, 56))
    c1, c2 = channels
    expected = (3136 * (c1 + c2) + c1 * c2) / (
        2 * 3136 * math.sqrt(c1 * c2) + c1 * c2
    )
    assert conv.memory_access / conv.memory_access_bound == pytest.approx(
        expected
    )
    assert expected > 1.05


def test_groups_raise_access_at_equal_flops():
    """Table 2's widths: 128 channels dense, 360 in 8 groups."""
    dense = Convolution(128, 128, (56, 56))
    grouped = Convolution(360, 360, (56, 56), groups=8)
    assert grouped.flops == pytest.approx(dense.flops, rel=0.02)
    assert grouped.memory_access > 2.5 * grouped.memory_access_bound


def test_bound_is_equation_2():
    assert pointwise_memory_access_bound(400, 4) == 2 * 40 + 100


def test_strided_pointwise_has_no_bound():
    assert Convolution(4, 4, (4, 4), (2, 2)).memory_access_bound is None


@pytest.mark.parametrize(
    'wrong, name',
    [
        (dict(groups=3), 'groups'),
        (dict(batch=0), 'batch'),
        (dict(kernel_size=(0, 1)), 'kernel_size'),
        (dict(out_size=(2,)), 'out_size'),
    ],
)
def test_impossible_layers_are_refused(wrong, name):
    with pytest.raises(ValueError, match=f'{name}: '):
        Convolution(
            **{**dict(in_channels=4, out_channels=8), **wrong}, in_size=(4, 4)
        )
