"""ShuffleNet V2 against the paper's figures and other implementations."""

import math

import torch
import torch.nn as nn
from pytorchcv.models import shufflenetv2b

from mmdet_shufflenetv2.backbones import ShuffleNetV2


def test_layers_number_as_the_deep_networks_are_called():
    def weighted(arch: str) -> int:
        with torch.device('meta'):
            backbone = ShuffleNetV2(arch=arch)
        units = [
            unit
            for name in backbone.stage_names
            for unit in getattr(backbone, name)
        ]
        stem = [m for m in backbone.conv1 if isinstance(m, nn.Conv2d)]
        return 3 * len(units) + len(stem)

    # The paper does not say which layers it counts: with conv5 and the
    # classifier the second one comes out even, without conv5 the first one.
    assert weighted('v2_50') + 1 == 50
    assert weighted('se_v2_164') + 2 == 164


def test_equals_pytorchcv(randomised, with_weights_of, assert_same_values):
    # At 0.5x only: its other widths mix the two styles.
    theirs = randomised(shufflenetv2b.shufflenetv2b_wd2())
    ours = with_weights_of(ShuffleNetV2(0.5, out_indices=(3,)), theirs)
    images = torch.randn(2, 3, 224, 224)
    assert_same_values(ours(images), [theirs.features[:-1](images)])


def receptive_field(**config) -> int:
    """Image rows that one output pixel of the first stage sees."""
    backbone = ShuffleNetV2(0.5, out_indices=(0,), act_cfg=None, **config)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.MaxPool2d):
            # The pool would pass on only one of nine gradients.
            module.forward = lambda x: nn.functional.avg_pool2d(x, 3, 2, 1)
    images = torch.randn(1, 3, 256, 256, requires_grad=True)
    output = backbone.eval().double()(images.double())[0]
    output[0, :, 16, 16].sum().backward()
    seen = images.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(seen[-1] - seen[0]) + 1


def test_every_unit_of_v2_star_sees_further():
    # 3x3, stride 2 twice: 7 rows at stride 4. Unit 1 adds 2 * 4, three more
    # 2 * 8 each; V2* adds another 2 * 4 in unit 1 and 2 * 8 in the others.
    assert receptive_field() == 7 + 8 + 3 * 16
    assert receptive_field(receptive_field='enlarged') == 7 + 16 + 3 * 32


def test_v2_star_adds_a_linear_depthwise_layer_to_every_unit():
    plain = ShuffleNetV2(1.0)
    star = ShuffleNetV2(1.0, receptive_field='enlarged')
    extra = set(star.state_dict()) - set(plain.state_dict())
    assert {name.split('.')[2] for name in extra} == {'enlarge'}
    for stage in star.stage_names:
        for unit in getattr(star, stage):
            conv, norm = unit.enlarge
            assert conv.kernel_size == (3, 3)
            assert conv.groups == conv.in_channels == conv.out_channels
            assert isinstance(norm, nn.BatchNorm2d)


def test_a_residual_unit_adds_its_input(randomised):
    plain = randomised(ShuffleNetV2(0.5, act_cfg=None)).stage2[1]
    residual = ShuffleNetV2(0.5, act_cfg=None, with_residual=True).stage2[1]
    residual.load_state_dict(plain.state_dict())
    residual.eval()
    x = torch.randn(1, 48, 5, 7)
    difference = residual(x) - plain(x)
    assert torch.equal(
        difference[:, ::2], torch.zeros_like(difference[:, ::2])
    )
    torch.testing.assert_close(difference[:, 1::2], x[:, 24:])


def test_squeeze_and_excitation_scales_the_main_branch():
    unit = ShuffleNetV2(0.5, with_se=True).eval().stage2[1]
    x = torch.randn(1, 48, 5, 7)
    gate = unit.se.fc2
    nn.init.zeros_(gate.weight)
    nn.init.constant_(gate.bias, math.inf)
    whole = unit(x)
    nn.init.zeros_(gate.bias)
    halved = unit(x)
    torch.testing.assert_close(halved[:, ::2], whole[:, ::2])
    torch.testing.assert_close(halved[:, 1::2], whole[:, 1::2] / 2)
