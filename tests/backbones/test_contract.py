"""What every backbone of this package promises.

All networks of the zoo are outlined, which costs next to nothing; those of
`contract_networks` run through every test.
"""

import copy
from functools import partial
from operator import floordiv

import numpy as np
import pytest
import torch
from contract_networks import (
    CONTIGUOUS,
    DILATED,
    NETWORKS,
    OURS,
    V1,
    V2,
    levels,
)
from mmdet.registry import MODELS
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm


@pytest.fixture(params=NETWORKS)
def config(request) -> dict:
    return NETWORKS[request.param]


def build(config: dict, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS.build({**config, **changes})


def outlined(config: dict, **changes) -> torch.nn.Module:
    """A network without values, which takes no time to build."""
    with torch.device('meta'):
        return build(config, **changes)


def images(count: int = 2, size: tuple[int, int] = (64, 96)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, *size, generator=generator)


def loss(features) -> torch.Tensor:
    return sum(
        (f * torch.linspace(0, 1, f.shape[1])[:, None, None]).mean()
        for f in features
    )


@pytest.mark.parametrize('name', OURS)
def test_every_network_states_channels_and_strides(name):
    backbone = outlined(levels(name)).eval()
    height, width = 64, 97
    features = backbone(torch.empty(1, 3, height, width, device='meta'))
    for feature, channels, stride in zip(
        features, backbone.out_channels, backbone.strides, strict=True
    ):
        assert feature.shape[1] == channels
        assert feature.shape[2:] == (-(-height // stride), -(-width // stride))


def test_features_are_what_feature_info_says(config):
    backbone = build(config).eval()
    for size in [(64, 96), (33, 47), (1, 1)]:
        features = backbone(images(1, size))
        assert isinstance(features, tuple)
        assert len(features) == len(config['out_indices'])
        for feature, info in zip(features, backbone.feature_info, strict=True):
            height, width = (-(-side // info['reduction']) for side in size)
            assert feature.shape == (1, info['num_chs'], height, width)
        assert backbone.out_channels == tuple(f.shape[1] for f in features)


def test_what_is_not_asked_for_is_not_built(config):
    backbone = outlined(config, out_indices=(0,))
    assert set(dict(backbone.named_children())) == {
        *backbone.stem_names,
        backbone.feature_info[0]['module'],
    }


def test_a_gradient_reaches_every_parameter(config):
    backbone = build(config).train()
    loss(backbone(images())).backward()
    without = [
        name
        for name, p in backbone.named_parameters()
        if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()
    ]
    assert without == []


@pytest.mark.parametrize('frozen_stages', [0, 2])
def test_frozen_parts_do_not_change_in_a_training_step(config, frozen_stages):
    backbone = build(config, frozen_stages=frozen_stages).train()
    frozen = (*backbone.stem_names, *backbone.stage_names[:frozen_stages])
    before = copy.deepcopy(backbone.state_dict())
    features = backbone(images())
    trained = [p for p in backbone.parameters() if p.requires_grad]
    # A network may be frozen as a whole.
    if trained:
        loss(features).backward()
        # A scale in front of a normalised layer has next to no gradient.
        torch.optim.SGD(trained, lr=1e4).step()
    for name, value in backbone.state_dict().items():
        # Which channels a group of CondenseNet reads is no weight.
        is_frozen = name.split('.')[0] in frozen or name.endswith('.index')
        assert torch.equal(value, before[name]) == is_frozen, name


@pytest.mark.parametrize('name', OURS)
def test_nothing_is_frozen_by_default(name):
    backbone = outlined(levels(name)).train()
    assert all(p.requires_grad for p in backbone.parameters())
    assert all(m.training for m in backbone.modules())


@pytest.mark.parametrize('name', OURS)
@pytest.mark.parametrize('kind', ['BN', 'SyncBN'])
def test_norm_eval_covers_every_norm(name, kind):
    config = levels(name, norm_cfg=dict(type=kind))
    backbone = outlined(config, norm_eval=True)
    backbone.train()
    found = [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
    assert found
    assert all(
        isinstance(m, SyncBatchNorm) == (kind == 'SyncBN') for m in found
    )
    assert not any(m.training for m in found)
    assert backbone.training


def test_checkpointed_equals_plain(config):
    plain = build(config).train()
    checkpointed = build(config, with_cp=True).train()
    x = images()
    outputs = [backbone(x) for backbone in (plain, checkpointed)]
    for a, b in zip(*outputs, strict=True):
        assert torch.equal(a, b)
    for features in outputs:
        loss(features).backward()
    for (name, a), b in zip(
        plain.named_parameters(), checkpointed.parameters(), strict=True
    ):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    # The second run of a checkpointed unit must not count as a batch.
    for (name, a), b in zip(
        plain.named_buffers(), checkpointed.buffers(), strict=True
    ):
        assert torch.equal(a, b), name


@pytest.mark.parametrize('name', [V2, 'shufflenet_v2_star'])
def test_checkpointing_compiles(name):
    eager = build(NETWORKS[name], with_cp=True, channels_last=False).train()
    module = copy.deepcopy(eager)
    compiled = torch.compile(module, backend='aot_eager', fullgraph=True)
    for backbone in (eager, compiled):
        loss(backbone(images())).backward()
    close = partial(torch.testing.assert_close, rtol=1e-3, atol=1e-4)
    for a, b in zip(eager.parameters(), module.parameters(), strict=True):
        close(a.grad, b.grad)
    # No batch may count twice here either.
    for a, b in zip(eager.buffers(), module.buffers(), strict=True):
        close(a, b)


def test_checkpointing_saves_memory(config):
    def kept(backbone) -> int:
        sizes = []

        def pack(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            backbone(images())
        return sum(sizes)

    plain = kept(build(config).train())
    assert kept(build(config, with_cp=True).train()) < 0.7 * plain


def test_a_single_image_trains(config):
    backbone = build(config).train()
    features = backbone(images(1))
    loss(features).backward()
    assert all(f.isfinite().all() for f in features)


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('name', sorted(NETWORKS.keys() - CONTIGUOUS))
def test_the_memory_layout_changes_no_value(name, channels_last):
    config = NETWORKS[name]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    expected = build(config, channels_last=False).eval()(images())
    backbone = build(config, channels_last=channels_last).eval()
    # A layer that falls back to the other layout would cost every later one.
    layouts = []

    def note(unit, inputs, output):
        # A cell hands on two maps.
        for m in output if isinstance(output, tuple) else (output,):
            layouts.append(m.is_contiguous(memory_format=layout))

    for stage in backbone.stage_names:
        for unit in getattr(backbone, stage).children():
            unit.register_forward_hook(note)
    features = backbone(images())
    assert layouts
    assert all(layouts)
    for feature, other in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, other, rtol=1e-4, atol=1e-4)


def test_tracing_gives_the_same_features(config):
    backbone = build(config).eval()
    traced = torch.jit.trace(backbone, images(1, (32, 32)), check_trace=False)
    x = images(2, (64, 96))
    for a, b in zip(traced(x), backbone(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', DILATED)
def test_a_dilated_network_computes_the_strided_one_at_more_places(
    name, randomised, assert_same_values
):
    plain = randomised(build(NETWORKS[name]))
    dilated = build(NETWORKS[name], **DILATED[name]).eval()
    dilated.load_state_dict(plain.state_dict())
    assert max(dilated.strides) == 8
    x = images(1, (96, 64))
    steps = map(floordiv, plain.strides, dilated.strides)
    assert_same_values(
        [b[..., ::k, ::k] for k, b in zip(steps, dilated(x), strict=True)],
        plain(x),
    )


def test_a_state_dict_restores_the_features(config, randomised):
    backbone = randomised(build(config))
    other = build(config).eval()
    other.load_state_dict(backbone.state_dict())
    for a, b in zip(backbone(images()), other(images()), strict=True):
        assert torch.equal(a, b)


def test_scratch_weights_keep_the_scale_of_features(config):
    backbone = build(config)
    backbone.init_weights()
    for feature in backbone.train()(images()):
        assert 0.1 < feature.std() < 10


def refused(config: dict, **changes) -> str:
    with pytest.raises(ValueError, match=r'must (be|have)') as error:
        outlined(config, **changes)
    assert repr(next(iter(changes.values()))) in str(error.value)
    return str(error.value)


def test_bad_arguments_of_all_families_are_refused(config):
    for bad in (), (0, 0), (1, 0), (-1,), (0, 9), ('stage2',), 3, (1.0,):
        text = refused(config, out_indices=bad)
        assert 'out_indices must be an ascending sequence of levels' in text
    for bad in -2, 9, None, 1.0, True:
        text = refused(config, frozen_stages=bad)
        assert 'frozen_stages must be one of -1, 0' in text
    for name in 'norm_eval', 'with_cp', 'channels_last':
        assert 'False' in refused(config, **{name: 'no'})


FIXED = ('densenet_x0_5', 'pnasnet_5', 'igcv3_d_0_7')
OTHERS = ('shufflenet_v2_x0_5', V1, *DILATED)


@pytest.mark.parametrize('name', sorted({*FIXED, *OTHERS}))
def test_bad_strides_and_dilations_are_refused(name):
    config = NETWORKS[name]
    if name in FIXED:
        assert 'each one of (2,)' in refused(config, strides=(2, 2, 2, 1))
        assert 'each one of (2,)' in refused(config, strides=(2,))
        assert 'each one of (1,)' in refused(config, dilations=2)
        return
    stages = len(DILATED.get(name, dict(strides=(2, 2, 2)))['strides'])
    for bad in (2,) * (stages + 1), (3,) * stages, (1.0,) * stages, 2:
        text = refused(config, strides=bad)
        assert f'must have {stages} values, each one of (1, 2)' in text
    for bad in (0,) * stages, (True,) * stages, 2:
        text = refused(config, dilations=bad)
        assert f'must have {stages} values, each a positive integer' in text


@pytest.mark.parametrize(
    'name, changes, allowed',
    [
        (V2, dict(arch='v3'), "'v2', 'v2_50', 'se_v2_164'"),
        (V2, dict(style='caffe'), "'torchvision', 'authors'"),
        (V2, dict(receptive_field='large'), "'standard', 'enlarged'"),
        (V2, dict(with_se='yes'), 'None, True, False'),
        (V2, dict(with_residual=1), 'None, True, False'),
        ('shufflenet_v2_50', dict(widen_factor=2.0), "of arch 'v2_50'"),
        (V1, dict(arch='v2'), "'v1', 'v1_50'"),
        (V1, dict(groups=5), "groups of arch 'v1' must be one of 1, 2, 3,"),
        (V1, dict(groups=3.0), 'must be one of 1, 2, 3, 4, 8'),
        (V1, dict(widen_factor=0.75), 'with groups=3 must be one of 0.5, 1.0'),
        (V1, dict(widen_factor=0.5, groups=4), 'with groups=4 must be one of'),
        (V1, dict(style='caffe'), "'paper', 'authors', 'mmpretrain'"),
        ('mobilenet_v1_x0_25', dict(widen_factor=0.3), '0.25, 0.5, 0.75, 1.0'),
        ('mobilenet_v2_x0_15', dict(widen_factor=0.5), '0.15, 0.4, 0.6, 0.75'),
        ('xception_x0_5', dict(widen_factor=[1.0]), '0.5, 1.0, 1.5, 2.0'),
        ('densenet_x0_5', dict(widen_factor=0.75), '0.5, 1.0, 1.5, 2.0'),
        ('igcv2_0_25', dict(widen_factor=0.75), '0.25, 0.5, 1.0'),
        ('pnasnet_5', dict(arch='small'), "'mobile', 'large'"),
        ('igcv3_d_0_7', dict(arch='igcv3_d'), "'igcv3_d_x0_7', 'igcv3_d_x1_"),
        ('nasnet_a_4_1056', dict(channels_last=True), 'None, False'),
    ],
)
def test_a_value_that_does_not_exist_is_refused(name, changes, allowed):
    assert allowed in refused(NETWORKS[name], **changes)


def test_whole_numbers_of_numpy_are_taken(config):
    levels = np.array([0, 1])
    backbone = outlined(
        config, out_indices=list(levels), frozen_stages=levels[1]
    )
    assert backbone.out_indices == (0, 1)
    assert backbone.frozen_stages == 1


@pytest.mark.parametrize(
    'name', [n for n, config in NETWORKS.items() if 'widen_factor' in config]
)
def test_only_numbers_are_widths(name):
    width = NETWORKS[name]['widen_factor']
    for bad in np.array([width]), True, str(width):
        with pytest.raises(ValueError, match=r'widen_factor.* must be'):
            outlined(NETWORKS[name], widen_factor=bad)
    outlined(NETWORKS[name], widen_factor=np.float64(width))
