import math

import pytest

from mmdet_shufflenetv2.analysis.convolution import Convolution

# Channels, maps and kernel; what is not the default; weights, FLOPs, access.
CASES = {
    'dense': (
        (3, 8, (10, 6), (5, 3), (3, 5)),
        dict(batch=2),
        (3 * 5 * 3 * 8, 2 * 15 * 360, 2 * (60 * 3 + 15 * 8) + 360),
    ),
    'grouped': (
        (8, 16, (4, 4), (4, 4), (3, 3)),
        dict(groups=4),
        (9 * 2 * 16, 16 * 288, 16 * 24 + 288),
    ),
    # It works per position of the input.
    'transposed': (
        (4, 2, (3, 3), (6, 6), (2, 2)),
        dict(transposed=True),
        (32, 9 * 32, 9 * 4 + 36 * 2 + 32),
    ),
}


@pytest.mark.parametrize('name', CASES)
def test_cost_by_hand(name):
    sizes, options, expected = CASES[name]
    conv = Convolution(*sizes, **options)
    assert (conv.weights, conv.flops, conv.memory_access) == expected
    assert not conv.is_depthwise
    assert conv.memory_access_bound is None


# Table 1's widths: more unequal, more access at nearly equal FLOPs.
@pytest.mark.parametrize('batch', [1, 8])
@pytest.mark.parametrize(
    'channels', [(128, 128), (90, 180), (52, 312), (36, 432)]
)
def test_only_a_balanced_pointwise_one_reaches_the_bound(channels, batch):
    size, (c1, c2) = (56, 56), channels
    conv = Convolution(*channels, size, size, (1, 1), batch=batch)
    bound = 2 * batch * 3136 * math.sqrt(c1 * c2) + c1 * c2
    assert conv.memory_access_bound == pytest.approx(bound)
    if c1 == c2:
        assert conv.memory_access == pytest.approx(bound)
    else:
        assert conv.memory_access > 1.05 * bound
