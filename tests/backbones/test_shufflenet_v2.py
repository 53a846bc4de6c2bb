"""ShuffleNet V2 against the paper's figures and other implementations."""

import math

import pytest
import torch
import torch.nn as nn
from mmcv.cnn import ConvModule
from pytorchcv.models import shufflenetv2b
from torchvision import models

from mmdet_shufflenetv2.backbones import ShuffleNetV2
from mmdet_shufflenetv2.compat.foreign_checkpoints import (
    SHUFFLENET_V2_FORMATS,
)

CONV5 = {'v2': 3, 'v2_50': 4, 'se_v2_164': 4}
# arXiv 1807.11164: multiply-adds in millions (Table 8; Table 6 for the deep
# ones) and parameters in millions (the authors' model zoo).
PUBLISHED = [
    (dict(widen_factor=0.5), 41, 1.4),
    (dict(widen_factor=1.0), 146, 2.3),
    (dict(widen_factor=1.5), 299, 3.5),
    (dict(widen_factor=2.0), 591, 7.4),
    (dict(widen_factor=2.0, with_se=True), 597, None),
    (dict(arch='v2_50'), 2300, None),
    (dict(arch='se_v2_164'), 12700, None),
]


def cost(**config) -> tuple[float, float]:
    """Multiply-adds and parameters of a classifier, in millions.

    At 224x224 with 1000 classes; convolutions and fully connected layers.
    """
    last = CONV5[config.get('arch', 'v2')]
    with torch.device('meta'):
        backbone = ShuffleNetV2(out_indices=(last,), **config).eval()
        images = torch.empty(1, 3, 224, 224)
    products = []
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda conv, _, out: products.append(
                    conv.weight[0].numel() * out.numel()
                )
            )
    backbone(images)
    channels = backbone.out_channels[-1]
    parameters = sum(p.numel() for p in backbone.parameters())
    return (
        (sum(products) + 1000 * channels) / 1e6,
        (parameters + 1000 * channels + 1000) / 1e6,
    )


@pytest.mark.parametrize('style', ['torchvision', 'authors'])
@pytest.mark.parametrize('config, mflops, params_m', PUBLISHED)
def test_cost_is_within_3_percent_of_the_paper(
    config, mflops, params_m, style
):
    measured_mflops, measured_params_m = cost(style=style, **config)
    assert measured_mflops == pytest.approx(mflops, rel=0.03)
    if params_m is not None:
        assert measured_params_m == pytest.approx(params_m, rel=0.03)


@pytest.mark.parametrize('width, mflops', [(1.0, 146), (1.5, 299), (2.0, 591)])
def test_the_authors_style_is_what_the_paper_counts(width, mflops):
    assert round(cost(widen_factor=width, style='authors')[0]) == mflops


def test_layers_number_as_the_deep_networks_are_called():
    def weighted(arch: str) -> int:
        with torch.device('meta'):
            backbone = ShuffleNetV2(arch=arch)
        units = [
            unit
            for name in backbone.stage_names
            for unit in getattr(backbone, name)
        ]
        stem = [m for m in backbone.stem if isinstance(m, ConvModule)]
        return 3 * len(units) + len(stem)

    # The paper does not say which layers it counts: with conv5 and the
    # classifier the second one comes out even, without conv5 the first one.
    assert weighted('v2_50') + 1 == 50
    assert weighted('se_v2_164') + 2 == 164


def renamed(state_dict: dict, format_name: str) -> dict:
    found = next(f for f in SHUFFLENET_V2_FORMATS if f.name == format_name)
    pairs = ((found.to_ours(key), value) for key, value in state_dict.items())
    return {key: value for key, value in pairs if key}


@pytest.mark.parametrize('width', [0.5, 1.0, 1.5, 2.0])
def test_equals_torchvision_at_every_level(width, randomised):
    name = f'shufflenet_v2_x{width}'.replace('.', '_')
    theirs = randomised(getattr(models, name)())
    ours = ShuffleNetV2(width, out_indices=(0, 1, 2, 3)).eval()
    ours.load_state_dict(renamed(theirs.state_dict(), 'torchvision'))
    images = torch.randn(2, 3, 65, 96)
    x = theirs.maxpool(theirs.conv1(images))
    for level, feature in zip(
        ('stage2', 'stage3', 'stage4', 'conv5'), ours(images), strict=True
    ):
        x = getattr(theirs, level)(x)
        scale = x.abs().max()
        torch.testing.assert_close(
            feature / scale, x / scale, rtol=0, atol=1e-5
        )


def test_equals_pytorchcv(randomised):
    # At 0.5x only: its other widths mix the two styles.
    theirs = randomised(shufflenetv2b.shufflenetv2b_wd2())
    ours = ShuffleNetV2(0.5, out_indices=(3,)).eval()
    ours.load_state_dict(renamed(theirs.state_dict(), 'pytorchcv'))
    images = torch.randn(2, 3, 224, 224)
    expected = theirs.features[:-1](images)
    scale = expected.abs().max()
    torch.testing.assert_close(
        ours(images)[0] / scale, expected / scale, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize('style', ['torchvision', 'authors'])
def test_a_dilated_network_computes_the_strided_one_at_more_places(
    style, randomised
):
    plain = randomised(ShuffleNetV2(0.5, style=style))
    dilated = ShuffleNetV2(
        0.5, style=style, strides=(2, 1, 1), dilations=(1, 2, 4)
    )
    dilated.load_state_dict(plain.state_dict())
    dilated.eval()
    assert dilated.strides == (8, 8, 8)
    images = torch.randn(1, 3, 96, 64)
    for step, a, b in zip(
        (1, 2, 4), plain(images), dilated(images), strict=True
    ):
        torch.testing.assert_close(
            b[..., ::step, ::step], a, rtol=1e-4, atol=1e-4
        )


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
    assert {name.split('.')[3] for name in extra} == {'enlarge'}
    for stage in star.stage_names:
        for unit in getattr(star, stage):
            layer = next(unit.branch2.children())
            assert layer is unit.branch2.enlarge
            assert layer.conv.groups == layer.conv.in_channels
            assert layer.with_norm
            assert not layer.with_activation


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
    gate = unit.branch2.se.gate[-1].conv
    nn.init.zeros_(gate.weight)
    nn.init.constant_(gate.bias, math.inf)
    whole = unit(x)
    nn.init.zeros_(gate.bias)
    halved = unit(x)
    torch.testing.assert_close(halved[:, ::2], whole[:, ::2])
    torch.testing.assert_close(halved[:, 1::2], whole[:, 1::2] / 2)


@pytest.mark.parametrize(
    'argument, value, allowed',
    [
        ('widen_factor', 0.75, '0.5, 1.0, 1.5, 2.0'),
        ('arch', 'v3', "'v2', 'v2_50', 'se_v2_164'"),
        ('style', 'caffe', "'torchvision', 'authors'"),
        ('receptive_field', 'large', "'standard', 'enlarged'"),
        ('strides', (2, 2), '3 values, each one of (1, 2)'),
        ('strides', (2, 2, 3), '3 values, each one of (1, 2)'),
        ('dilations', (1, 1, 0), '3 values, each a positive integer'),
        ('dilations', 2, '3 values, each a positive integer'),
    ],
)
def test_an_unknown_value_is_refused_with_what_is_allowed(
    argument, value, allowed
):
    with pytest.raises(ValueError, match=argument) as error:
        ShuffleNetV2(**{argument: value})
    assert allowed in str(error.value)
    assert repr(value) in str(error.value)


def test_a_deep_network_has_one_width():
    with pytest.raises(ValueError, match=r"widen_factor of arch 'v2_50'"):
        ShuffleNetV2(2.0, arch='v2_50')
