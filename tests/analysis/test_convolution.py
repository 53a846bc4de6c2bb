import math

import pytest

from mmdet_shufflenetv2.analysis.convolution import Convolution


@pytest.mark.parametrize(
    'conv, weights, flops, access',
    [
        (
            Convolution(3, 8, (10, 6), (5, 3), kernel_size=(3, 5), batch=2),
            3 * 5 * 3 * 8,
            2 * 15 * 360,
            2 * (60 * 3 + 15 * 8) + 360,
        ),
        (
            Convolution(8, 16, (4, 4), kernel_size=(3, 3), groups=4),
            9 * 2 * 16,
            16 * 288,
            16 * 24 + 288,
        ),
        # Transposed, it works per position of the input.
        (
            Convolution(4, 2, (3, 3), (6, 6), (2, 2), transposed=True),
            32,
            9 * 32,
            9 * 4 + 36 * 2 + 32,
        ),
    ],
    ids=['dense', 'grouped', 'transposed'],
)
def test_cost_by_hand(conv, weights, flops, access):
    found = conv.weights, conv.flops, conv.memory_access
    assert found == (weights, flops, access)
    assert not conv.is_depthwise
    assert conv.memory_access_bound is None


@pytest.mark.parametrize('batch', [1, 8])
def test_balanced_pointwise_reaches_the_bound(batch):
    conv = Convolution(128, 128, (56, 56), batch=batch)
    assert conv.memory_access == batch * 56 * 56 * 256 + 128 * 128
    assert conv.memory_access == pytest.approx(conv.memory_access_bound)
    assert Convolution(4, 4, (4, 4), (2, 2)).memory_access_bound is None


@pytest.mark.parametrize('channels', [(90, 180), (52, 312), (36, 432)])
def test_unbalanced_pointwise_stays_above_the_bound(channels):
    """Table 1's widths: more unequal, more access at nearly equal FLOPs."""
    conv, (c1, c2) = Convolution(*channels, (56, 56)), channels
    bound = 2 * 3136 * math.sqrt(c1 * c2) + c1 * c2
    assert conv.memory_access_bound == pytest.approx(bound)
    assert conv.memory_access > 1.05 * bound
