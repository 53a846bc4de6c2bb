"""Every family against other implementations of it, or its definition."""

import math
import sys

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from authors_networks import shufflenet_v1
from mmpretrain.models import backbones as mmpretrain
from pytorchcv.models import (
    condensenet,
    densenet,
    igcv3,
    mobilenet,
    nasnet,
    pnasnet,
    preresnet,
    shufflenet,
)

from mmdet_shufflenetv2.backbones import (
    IGCV2,
    DenseNet,
    MobileNetV1,
    PNASNet,
    PytorchcvBackbone,
    ShuffleNetV1,
    ShuffleNetV2,
)
from mmdet_shufflenetv2.backbones.mobilenet_v2 import (
    MobileNetV2,
    StagedMobileNetV2,
)
from mmdet_shufflenetv2.backbones.pytorchcv_networks import ARCHITECTURES
from mmdet_shufflenetv2.backbones.xception import XceptionUnit

IMAGES = torch.randn(2, 3, 65, 96, generator=torch.Generator().manual_seed(2))


def library_levels(theirs, *stages: str) -> list[torch.Tensor]:
    x = theirs.features.init_block(IMAGES)
    levels = []
    for stage in stages:
        x = getattr(theirs.features, stage)(x)
        levels.append(x)
    return levels


@pytest.mark.parametrize(
    'name, config',
    [
        ('shufflenet_g3_wd2', dict(groups=3, widen_factor=0.5)),
        ('shufflenet_g8_w1', dict(groups=8)),
    ],
)
def test_shufflenet_v1_equals_pytorchcv(
    name, config, randomised, with_weights_of, assert_same_values
):
    theirs = randomised(getattr(shufflenet, name)())
    ours = with_weights_of(ShuffleNetV1(**config), theirs)
    expected = library_levels(theirs, 'stage1', 'stage2', 'stage3')
    assert_same_values(ours(IMAGES), expected)


def test_shufflenet_v1_equals_mmpretrain(
    randomised, with_weights_of, assert_same_values
):
    theirs = mmpretrain.ShuffleNetV1(groups=3, out_indices=(0, 1, 2))
    randomised(theirs)
    ours = with_weights_of(ShuffleNetV1(style='mmpretrain'), theirs)
    assert_same_values(ours(IMAGES), theirs(IMAGES))


@pytest.mark.parametrize('groups', [3, 8])
def test_shufflenet_v1_equals_its_authors(
    groups, randomised, assert_same_values
):
    ours = randomised(ShuffleNetV1(0.5, groups, style='authors'))
    (found,) = (f for f in ours.formats if f.name == 'authors')
    weights = {found.to_theirs(k): v for k, v in ours.state_dict().items()}
    assert_same_values(ours(IMAGES), shufflenet_v1(weights, groups, IMAGES))


def test_only_the_first_pointwise_convolution_of_v1_is_not_grouped():
    with torch.device('meta'):
        backbone = ShuffleNetV1(groups=4)
    groups = [
        (unit.compress.groups, unit.expand.groups)
        for stage in backbone.stage_names
        for unit in getattr(backbone, stage)
    ]
    assert groups == [(1, 4)] + [(4, 4)] * 15


def test_a_frozen_norm_is_folded_in_training(randomised, assert_same_values):
    # In double precision: random weights amplify rounding.
    backbone = randomised(
        ShuffleNetV2(0.5, receptive_field='enlarged', norm_eval=True)
    ).double()
    runs = []
    for training in True, False:
        kept = []
        backbone.train(training).zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.append(t) or t, lambda t: t
        ):
            features = backbone(IMAGES.double())
        sum(f.square().mean() for f in features).backward()
        gradients = [p.grad for p in backbone.parameters()]
        maps = sum(t.numel() for t in kept if len(t) == len(IMAGES))
        runs.append(([*features, *gradients], maps))
    (folded, little), (plain, much) = runs
    assert_same_values(folded, plain)
    assert little < 0.75 * much


def rows_seen(unit: nn.Module, channels: int, size: int = 33) -> int:
    """Rows of the input that one output pixel depends on."""
    for module in unit.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    x = torch.randn(1, channels, size, size, requires_grad=True)
    unit.eval()(x)[0, :, size // 2, size // 2].sum().backward()
    seen = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(seen[-1] - seen[0]) + 1


def test_units_see_3_pixels_those_of_v2_star_5_and_xceptions_7():
    for kind, rows in ('standard', 3), ('enlarged', 5):
        backbone = ShuffleNetV2(0.5, act_cfg=None, receptive_field=kind)
        for stage in backbone.stage_names:
            unit = getattr(backbone, stage)[1]
            channels = 2 * unit.branch2[0].in_channels
            assert rows_seen(unit, channels) == rows
    conv, norm = unit.enlarge
    assert conv.kernel_size == (3, 3)
    assert conv.groups == conv.in_channels == conv.out_channels
    assert isinstance(norm, nn.BatchNorm2d)
    assert rows_seen(XceptionUnit(8, 8, act_cfg=None), 8) == 7


def test_a_residual_unit_adds_its_input(randomised):
    plain = randomised(ShuffleNetV2(0.5, act_cfg=None)).stage2[1]
    residual = ShuffleNetV2(0.5, act_cfg=None, with_residual=True).stage2[1]
    residual.load_state_dict(plain.state_dict())
    x = torch.randn(1, 48, 5, 7)
    difference = residual.eval()(x) - plain(x)
    assert not difference[:, ::2].any()
    torch.testing.assert_close(difference[:, 1::2], x[:, 24:])
    unit = XceptionUnit(8, 8, act_cfg=None).eval()
    nn.init.zeros_(unit.branch.pointwise3.conv.weight)
    torch.testing.assert_close(unit(x[:, :8]), x[:, :8])


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


def test_mobilenet_v1_equals_pytorchcv(
    randomised, with_weights_of, assert_same_values
):
    theirs = randomised(mobilenet.mobilenet_wd4())
    ours = MobileNetV1(0.25, out_indices=range(5))
    stages = [f'stage{i + 1}' for i in range(5)]
    expected = library_levels(theirs, *stages)
    assert_same_values(with_weights_of(ours, theirs)(IMAGES), expected)


@pytest.mark.parametrize('theirs', [MobileNetV2, mmpretrain.MobileNetV2])
def test_mobilenet_v2_equals_the_hosts(
    theirs, randomised, with_weights_of, assert_same_values
):
    theirs = theirs(1.4, out_indices=range(8))
    randomised(theirs)
    ours = StagedMobileNetV2(1.4, out_indices=range(8))
    assert isinstance(ours, MobileNetV2)
    assert_same_values(with_weights_of(ours, theirs)(IMAGES), theirs(IMAGES))


def test_densenet_equals_pytorchcvs_blocks(randomised, assert_same_values):
    growth, units = 13, (3, 7, 3)
    theirs, channels = [], 24
    for count in units:
        blocks = [densenet.TransitionBlock(channels, channels // 2)]
        channels //= 2
        for _ in range(count):
            blocks.append(densenet.DenseUnit(channels, channels + growth, 0.0))
            channels += growth
        theirs.append(randomised(nn.Sequential(*blocks)))
    last = randomised(preresnet.PreResActivation(channels))
    # The stem normalises and activates already.
    theirs[0][0].conv.bn = nn.Identity()
    ours = DenseNet(0.5).eval()
    images = IMAGES[:, :, 1:]
    x = ours.stem(images)
    expected = []
    for index, (blocks, name) in enumerate(
        zip(theirs, ours.stage_names, strict=True)
    ):
        transition, *dense, end = getattr(ours, name)
        transition.conv.weight = blocks[0].conv.conv.weight
        for unit, block in zip(dense, blocks[1:], strict=True):
            for mine, other in (
                (unit.pointwise, block.conv1),
                (unit.conv, block.conv2),
            ):
                mine.bn, mine.conv.weight = other.bn, other.conv.weight
        x = blocks(x)
        # Up to where the next stage's transition convolves.
        after = theirs[index + 1][0].conv if index < 2 else last
        end.bn = after.bn
        expected.append(after.activ(after.bn(x)))
    assert_same_values(ours(images), expected)


@pytest.mark.parametrize('stage, unit', [(0, 0), (1, 1), (4, 1)])
def test_a_unit_of_igcv2_is_the_product_of_its_matrices(
    stage, unit, randomised, assert_same_values
):
    def dense(conv):
        return torch.block_diag(*conv.weight.flatten(1).chunk(conv.groups))

    def norm(bn, x):
        scale = bn.weight / (bn.running_var + bn.eps).sqrt()
        x = x - bn.running_mean[:, None]
        return x * scale[:, None] + bn.bias[:, None]

    backbone = randomised(IGCV2(0.25, out_indices=(stage,)))
    unit = getattr(backbone, backbone.stage_names[stage])[unit]
    channels = unit.mix1.conv.in_channels
    x = torch.randn(1, channels, 5, 7)
    columns = unit.depthwise(x)[0].flatten(1)
    columns = norm(unit.mix1.bn, dense(unit.mix1.conv) @ columns)
    # Channel i of group g goes to place i * groups + g.
    columns = columns.unflatten(0, (unit.groups, -1)).transpose(0, 1)
    columns = columns.flatten(0, 1)
    columns = norm(unit.mix2.bn, dense(unit.mix2.conv) @ columns).relu()
    assert_same_values([unit(x)[0]], [columns.unflatten(1, (5, 7))])


# Networks of the library, small, and where their levels end.
LIBRARY = {
    'igcv3_d_x1_0': (
        igcv3.igcv3_w1,
        ('stage2.unit4', 'stage3.unit6', 'stage4.unit14', 'stage5.unit7'),
    ),
    'condensenet_g8_c8': (
        condensenet.condensenet74_c8_g8,
        ('stage2.unit6', 'stage3.unit8', 'stage4.unit10', 'post_activ'),
    ),
    'nasnet_a_4_1056': (
        nasnet.nasnet_4a1056,
        ('stem1_unit', 'stage1.unit4'),
    ),
    # The library has the large one only.
    'pnasnet_5_mobile': (
        lambda: ARCHITECTURES['pnasnet_5_mobile'][1](pnasnet),
        ('stem1_unit', 'stage1.unit4'),
    ),
}


@pytest.mark.parametrize('arch', LIBRARY)
def test_checkpoints_of_pytorchcv_load_and_give_its_features(
    arch, randomised, saved, assert_same_values
):
    build, ends = LIBRARY[arch]
    theirs = randomised(build())
    theirs.features.final_pool = nn.Identity()
    generator = torch.Generator().manual_seed(0)
    for name, index in theirs.named_buffers():
        if name.endswith('.index'):
            index.random_(len(index), generator=generator)
    init_cfg = dict(
        type='Pretrained', checkpoint=str(saved(theirs.state_dict()))
    )
    ours = PytorchcvBackbone(
        arch, out_indices=range(len(ends)), init_cfg=init_cfg
    )
    ours.init_weights()
    expected = []
    for end in ends:
        theirs.features.get_submodule(end).register_forward_hook(
            lambda _, __, out: expected.append(out.clone())
        )
    # In double precision: random weights amplify rounding by 10 a stage.
    images = torch.randn(1, 3, 33, 47, dtype=torch.double)
    # IGCV3 takes any size itself.
    padded = images if 'igcv3' in arch else F.pad(images, (0, 17, 0, 31))
    theirs.double().features(padded)
    if 'nasnet' in arch:
        # Cells begin with their activation.
        expected = [feature.relu() for feature in expected]
    assert_same_values(
        ours.double().eval()(images),
        [
            feature[..., : -(-33 // stride), : -(-47 // stride)]
            for feature, stride in zip(expected, ours.strides, strict=True)
        ],
    )


@pytest.mark.parametrize('arch, params_m', [('mobile', 5.1), ('large', 86.1)])
def test_pnasnets_parameters_are_the_papers(arch, params_m):
    with torch.device('meta'):
        backbone = PNASNet(arch, out_indices=(3,))
    count = sum(p.numel() for p in backbone.parameters())
    count += 1001 * backbone.out_channels[0]
    assert round(count / 1e6, 1) == params_m


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pytorchcv.models.igcv3', None)
    with pytest.raises(ImportError, match=r'pip install .pytorchcv==0\.0\.74'):
        PytorchcvBackbone('igcv3_d_x1_0')
