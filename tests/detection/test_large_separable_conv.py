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


def test_act_each_changes_the_map():
    plain = LargeSeparableConv(3, 4, 2, kernel_size=3)
    each = LargeSeparableConv(3, 4, 2, kernel_size=3, act_each=True)
    parameters = plain.parameters()
    for parameter in each.parameters():
        parameter.data = next(parameters).data
    x = torch.randn(1, 3, 6, 6)
    assert not torch.allclose(plain(x), each(x))
    vertical = each.vertical_first(x).relu()
    horizontal = each.horizontal_first(x).relu()
    torch.testing.assert_close(each(x), vertical + horizontal)


@pytest.mark.parametrize(
    'options, kind',
    [
        (dict(norm=True), torch.nn.BatchNorm2d),
        (dict(norm_cfg=dict(type='SyncBN')), torch.nn.SyncBatchNorm),
        (dict(norm_cfg=dict(type='GN', num_groups=7)), torch.nn.GroupNorm),
    ],
)
def test_norm_of_each_branch_is_the_one_asked_for(options, kind):
    neck = build_neck(in_channels=(8, 16), out_channels=98, **options)
    conv = neck.thin_conv
    for branch in conv.vertical_first, conv.horizontal_first:
        assert isinstance(branch.norm, kind)
        assert branch.conv2.bias is None
        assert set(branch.norm.state_dict()) >= {'weight', 'bias'}


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


def test_neck_refuses_another_number_of_maps():
    neck = build_neck(in_channels=(8, 16))
    with pytest.raises(ValueError, match='expects 2 backbone levels'):
        neck((torch.randn(1, 8, 4, 4),))


@pytest.mark.parametrize('in_channels', [16, (), (16, 0), (8.0,), (True,)])
def test_neck_refuses_bad_in_channels(in_channels):
    with pytest.raises(ValueError, match='in_channels must list'):
        build_neck(in_channels=in_channels)
