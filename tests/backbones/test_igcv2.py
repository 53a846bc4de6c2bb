"""IGCV2 against the product of sparse matrices that it is."""

import pytest
import torch
import torch.nn as nn

from mmdet_shufflenetv2.backbones import IGCV2


def dense(conv: nn.Conv2d) -> torch.Tensor:
    """A pointwise group convolution as the matrix it multiplies by."""
    blocks = conv.weight.flatten(1).chunk(conv.groups)
    return torch.block_diag(*blocks)


def permutation(channels: int, groups: int) -> torch.Tensor:
    """Channel i of group g goes to place i * groups + g."""
    matrix = torch.zeros(channels, channels)
    size = channels // groups
    for group in range(groups):
        for i in range(size):
            matrix[i * groups + group, group * size + i] = 1
    return matrix


def norm(bn: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    return (x - bn.running_mean[:, None]) * scale[:, None] + bn.bias[:, None]


@pytest.mark.parametrize('stage, unit', [(0, 0), (1, 1), (4, 1)])
def test_a_unit_is_the_product_of_its_matrices(
    stage, unit, randomised, assert_same_values
):
    backbone = randomised(IGCV2(0.25, out_indices=(stage,)))
    unit = getattr(backbone, backbone.stage_names[stage])[unit]
    channels = unit.mix1.conv.in_channels
    x = torch.randn(1, channels, 5, 7)
    columns = unit.depthwise(x)[0].flatten(1)
    columns = norm(unit.mix1.bn, dense(unit.mix1.conv) @ columns)
    columns = permutation(channels, unit.groups) @ columns
    columns = norm(unit.mix2.bn, dense(unit.mix2.conv) @ columns).relu()
    assert_same_values([unit(x)[0]], [columns.unflatten(1, (5, 7))])


def test_every_output_of_a_unit_sees_every_input():
    # The complementary condition, section 3.2, which takes 64 channels.
    backbone = IGCV2(1.0, out_indices=(2,))
    for name in backbone.stage_names:
        for unit in getattr(backbone, name):
            first, second = (
                dense(conv).ne(0).float()
                for conv in (unit.mix1.conv, unit.mix2.conv)
            )
            shuffle = permutation(len(first), unit.groups)
            assert (second @ shuffle @ first > 0).all()


def test_the_last_unit_emits_what_mobilenets_does():
    backbone = IGCV2(1.0, out_indices=(0, 1, 2, 3, 4))
    assert backbone.out_channels == (128, 256, 512, 1024, 1024)
    assert backbone.strides == (2, 4, 8, 16, 32)
