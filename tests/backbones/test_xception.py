"""The light Xception: what is published of it."""

import torch
import torch.nn as nn

from mmdet_shufflenetv2.backbones import ShuffleNetV2, Xception
from mmdet_shufflenetv2.backbones.xception import XceptionUnit


def rows_seen(unit: nn.Module, channels: int) -> int:
    """Rows of the input that one output pixel depends on."""
    for module in unit.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    x = torch.randn(1, channels, 17, 17, requires_grad=True)
    unit.eval()(x)[0, :, 8, 8].sum().backward()
    seen = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(seen[-1] - seen[0]) + 1


def test_a_unit_sees_7_pixels_where_shufflenet_v2_sees_3():
    assert rows_seen(XceptionUnit(8, 8, act_cfg=None), 8) == 7
    plain = ShuffleNetV2(0.5, act_cfg=None).stage2[1]
    assert rows_seen(plain, 48) == 3


def test_stages_are_those_of_light_head_r_cnn():
    with torch.device('meta'):
        backbone = Xception()
    assert backbone.stem.conv1.out_channels == 24
    assert backbone.out_channels == (144, 288, 576)
    assert backbone.strides == (8, 16, 32)
    assert [len(getattr(backbone, name)) for name in backbone.stage_names] == [
        1 + 3,
        1 + 7,
        1 + 3,
    ]


def test_a_unit_adds_its_input_where_sizes_agree():
    unit = XceptionUnit(8, 8, act_cfg=None).eval()
    nn.init.zeros_(unit.branch.pointwise3.conv.weight)
    x = torch.randn(1, 8, 5, 7)
    torch.testing.assert_close(unit(x), x)
