"""Every family against other implementations or its definition.

Weights come out of files in the other project's naming.
"""

import math
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.backbones import MobileNetV2
from mmdet.registry import MODELS
from mmpretrain.models import backbones as mmpretrain
from pytorchcv.model_provider import get_model
from pytorchcv.models import densenet, pnasnet, preresnet
from reference_networks import (
    assert_same_values,
    kept_for_backward,
    randomised,
    shufflenet_v1,
    shufflenet_v2,
)
from torch import nn
from torchvision import models

from mmdet_shufflenetv2.backbones import (
    IGCV2,
    DenseNet,
    PytorchcvBackbone,
    ShuffleNetV1,
    ShuffleNetV2,
)
from mmdet_shufflenetv2.backbones.pretrained import load_pretrained
from mmdet_shufflenetv2.backbones.pytorchcv_networks import ARCHITECTURES
from mmdet_shufflenetv2.backbones.xception import XceptionUnit
from mmdet_shufflenetv2.backbones.zoo import NETWORKS
from mmdet_shufflenetv2.compat.input_format import RAW_BGR

V1 = partial(ShuffleNetV1, 0.5)
V2 = partial(ShuffleNetV2, 0.5)
THREE, FOUR = 'stage1 stage2 stage3', 'stage1 stage2 stage3 stage4'
EIGHT = 'layer1 layer2 layer3 layer4 layer5 layer6 layer7 conv2'
CELLS, PNASNET = 'stem1_unit stage1.unit4', 'pnasnet_5_mobile'
# Our network, another project's (pytorchcv's if it is a name), and that
# network's modules where our levels end, in its ``features`` if it has them.
PEERS = [
    *(
        (name, getattr(models, name), 'stage2 stage3 stage4 conv5')
        for name in ('shufflenet_v2_x0_5', 'shufflenet_v2_x2_0')
    ),
    ('mobilenet_v2_x1_0', models.mobilenet_v2, '1 3 6 10 13 16 17 18'),
    (
        'shufflenet_v2_x1_0',
        partial(mmpretrain.ShuffleNetV2, out_indices=(3,)),
        'layers.0 layers.1 layers.2 layers.3',
    ),
    (
        dict(type='ShuffleNetV1', style='mmpretrain'),
        partial(mmpretrain.ShuffleNetV1, groups=3),
        'layers.0 layers.1 layers.2',
    ),
    ('mobilenet_v2_x1_4', partial(mmpretrain.MobileNetV2, 1.4), EIGHT),
    ('mobilenet_v2_x1_4', partial(MobileNetV2, 1.4, range(8)), EIGHT),
    # Only at 0.5x, because its other widths mix the two styles.
    ('shufflenet_v2_x0_5', 'shufflenetv2b_wd2', f'{THREE} final_block'),
    ('shufflenet_v1_x0_5_g3', 'shufflenet_g3_wd2', THREE),
    ('shufflenet_v1_x1_0_g8', 'shufflenet_g8_w1', THREE),
    ('mobilenet_v1_x0_25', 'mobilenet_wd4', f'{FOUR} stage5'),
    (
        'mobilenet_v2_x1_0',
        'mobilenetv2b_w1',
        f'{THREE} stage4.unit4 stage4.unit7 stage5.unit3 stage5.unit4 '
        'final_block',
    ),
    ('igcv3_d_1_0', 'igcv3_w1', 'stage2 stage3 stage4 stage5 final_block'),
    (
        'condensenet_g8_c8',
        'condensenet74_c8_g8',
        'stage2 stage3 stage4 post_activ',
    ),
    ('nasnet_a_4_1056', 'nasnet_4a1056', CELLS),
    # The library itself has only the large one.
    ('pnasnet_5', lambda: ARCHITECTURES[PNASNET][1](pnasnet), CELLS),
]


@pytest.mark.parametrize('ours, theirs, ends', PEERS)
def test_weights_of_other_projects_load_and_give_their_features(
    ours, theirs, ends, tmp_path
):
    theirs = get_model(theirs) if isinstance(theirs, str) else theirs()
    randomised(theirs)
    path = str(tmp_path / 'weights.pth')
    torch.save(theirs.state_dict(), path)
    config = ours if isinstance(ours, dict) else NETWORKS[ours].config
    levels = range(len(ends.split()))
    ours = MODELS.build(dict(config, out_indices=levels))
    load_pretrained(ours, path)
    # In double precision, as random weights amplify rounding by 10 per stage.
    images = torch.randn(2, 3, 32, 64, dtype=torch.double)
    theirs = theirs.double()
    features = getattr(theirs, 'features', theirs)
    if hasattr(features, 'final_pool'):
        features.final_pool = nn.Identity()
    expected = []
    for end in ends.split():
        # Cells also pass on their input, and activate what they receive.
        features.get_submodule(end).register_forward_hook(
            lambda _, __, out: expected.append(
                out[0].relu() if isinstance(out, tuple) else out.clone()
            )
        )
    features(images)
    if ends == CELLS:
        expected = [feature.relu() for feature in expected]
    assert_same_values(ours.double().eval()(images), expected)


@pytest.mark.parametrize(
    'kind, levels, theirs',
    [
        (V2, 4, shufflenet_v2),
        (partial(V1, 3), 3, partial(shufflenet_v1, groups=3)),
        (partial(V1, 8), 3, partial(shufflenet_v1, groups=8)),
    ],
)
def test_style_authors_equals_the_authors_code(kind, levels, theirs, tmp_path):
    options = dict(style='authors', out_indices=range(levels))
    model = randomised(kind(**options))
    (found,) = (f for f in model.formats if f.name == 'authors')
    weights = {found.to_theirs(k): v for k, v in model.state_dict().items()}
    # Their files were saved from DataParallel.
    path = str(tmp_path / 'weights.pth')
    torch.save({f'module.{k}': v for k, v in weights.items()}, path)
    ours = kind(**options)
    load_pretrained(ours, path)
    assert ours.expected_input == RAW_BGR
    images = torch.randn(2, 3, 65, 96)
    assert_same_values(ours.eval()(images), theirs(weights, x=images))


def test_images_are_padded_at_the_right_and_the_bottom():
    ours = randomised(PytorchcvBackbone('condensenet_g8_c8', out_indices=(0,)))
    images = torch.randn(1, 3, 33, 47)
    (feature,) = ours(images)
    (padded,) = ours(F.pad(images, (0, 17, 0, 31)))
    torch.testing.assert_close(feature, padded[..., :9, :12])


def test_a_frozen_norm_is_folded_in_training():
    images = torch.randn(2, 3, 65, 96, dtype=torch.double)
    # In double precision, because random weights amplify rounding.
    backbone = randomised(
        ShuffleNetV2(0.5, receptive_field='enlarged', norm_eval=True)
    ).double()
    runs = []
    for training in True, False:
        backbone.train(training).zero_grad()
        with kept_for_backward() as kept:
            features = backbone(images)
        sum(f.square().mean() for f in features).backward()
        gradients = [p.grad for p in backbone.parameters()]
        maps = sum(t.numel() for t in kept if len(t) == len(images))
        runs.append(([*features, *gradients], maps))
    (folded, little), (plain, much) = runs
    assert_same_values(folded, plain)
    assert little < 0.75 * much


def rows_seen(unit: nn.Module, channels: int, size: int = 33) -> int:
    """The number of input rows that one output pixel depends on."""
    for module in unit.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    x = torch.randn(1, channels, size, size, requires_grad=True)
    unit.eval()(x)[0, :, size // 2, size // 2].sum().backward()
    seen = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(seen[-1] - seen[0]) + 1


def test_receptive_fields_of_units_v2_3_v2_star_5_xception_7():
    for kind, rows in ('standard', 3), ('enlarged', 5):
        backbone = ShuffleNetV2(0.5, act_cfg=None, receptive_field=kind)
        for stage in backbone.stage_names:
            unit = getattr(backbone, stage)[1]
            channels = 2 * unit.branch2[0].in_channels
            assert rows_seen(unit, channels) == rows
    assert rows_seen(XceptionUnit(8, 8, act_cfg=None), 8) == 7


def test_a_residual_unit_adds_its_input():
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


def test_densenet_equals_pytorchcvs_blocks():
    growth, channels = 13, 24
    ours = randomised(DenseNet(0.5))
    x = torch.randn(2, 3, 64, 96)
    levels = ours(x)
    x = ours.stem(x)
    for name, count, level in zip(
        ours.stage_names, (3, 7, 3), levels, strict=True
    ):
        transition, *dense, end = getattr(ours, name)
        # Up to the convolution of the next stage's transition.
        x = F.avg_pool2d(transition.conv(x), 2)
        channels //= 2
        for unit in dense:
            block = densenet.DenseUnit(channels, channels + growth, 0.0).eval()
            for mine, other in (
                (unit.pointwise, block.conv1),
                (unit.conv, block.conv2),
            ):
                other.bn, other.conv.weight = mine.bn, mine.conv.weight
            x, channels = block(x), channels + growth
        assert len(dense) == count
        after = preresnet.PreResActivation(channels).eval()
        after.bn = end.bn
        x = after(x)
        assert_same_values([level], [x])


@pytest.mark.parametrize('stage, unit', [(0, 0), (1, 1), (4, 1)])
def test_a_unit_of_igcv2_is_the_product_of_its_matrices(stage, unit):
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


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pytorchcv.models.igcv3', None)
    with pytest.raises(ImportError, match=r'pip install .pytorchcv==0\.0\.74'):
        PytorchcvBackbone('igcv3_d_x1_0')
