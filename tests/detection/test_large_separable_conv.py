import pytest
import torch
from mmdet.registry import MODELS
from torch.nn.functional import conv2d

from mmdet_shufflenetv2.detection import LargeSeparableConv


def test_sum_of_branches_is_a_plain_large_convolution():
    """Two separable branches equal one k x k convolution, before the ReLU."""
    layer = LargeSeparableConv(3, 4, mid_channels=2, kernel_size=5).double()
    x = torch.randn(2, 3, 9, 8, dtype=torch.double)
    kernel, bias = 0, 0
    for branch in layer.vertical_first, layer.horizontal_first:
        first, second = branch.conv1, branch.conv2
        # (out, mid, ., .) x (mid, in, ., .) -> (out, in, k, k)
        kernel = kernel + torch.einsum(
            'omab,micd->oiacbd', second.weight, first.weight
        ).reshape(4, 3, 5, 5)
        bias = bias + second.bias
        # The first convolution's bias meets zero padding in the second:
        # leave it out of the comparison.
        first.bias.data.zero_()
    expected = conv2d(x, kernel, bias, padding=2).relu()
    torch.testing.assert_close(layer(x), expected)


def build_neck(**kwargs):
    return MODELS.build(dict(type='LightHeadNeck', **kwargs))


def test_neck_levels_are_chosen_by_index():
    neck = build_neck(
        in_channels=(8, 16), out_channels=98, thin_level=0, rpn_level=1
    )
    stage3, conv5 = torch.randn(2, 8, 12, 10), torch.randn(2, 16, 6, 5)
    thin, rpn = neck((stage3, conv5))
    assert thin.shape == (2, 98, 12, 10)
    assert rpn is conv5


@pytest.mark.parametrize(
    'argument, value',
    [('thin_level', 2), ('rpn_level', -3), ('rpn_level', 0.0)],
)
def test_neck_refuses_absent_levels(argument, value):
    with pytest.raises(ValueError, match=f'{argument} .* got {value}'):
        build_neck(in_channels=(8, 16), **{argument: value})
