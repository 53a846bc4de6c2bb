"""The contract that every backbone of this package fulfils.

All networks of the zoo are outlined, which costs next to nothing; the
smallest of each family runs through every test.
"""

import copy
from functools import partial
from operator import floordiv

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from reference_networks import (
    assert_same_values,
    kept_for_backward,
    randomised,
)
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from mmdet_shufflenetv2.backbones import zoo
from mmdet_shufflenetv2.backbones.base import StagedBackbone


def levels(name: str, **changes) -> dict:
    """The config of a network that returns all its levels."""
    row = zoo.network(name)
    every = range(row.last_level + 1)
    return {**row.config, 'out_indices': every, **changes}


V2, STAR = 'shufflenet_v2_x0_5', 'shufflenet_v2_star_x0_5'
V1 = 'shufflenet_v1_x0_5_g3'
NETWORKS = {
    name: levels(name)
    for name in (
        *(V2, STAR, V1, 'mobilenet_v1_x0_25', 'mobilenet_v2_x0_15'),
        *('xception_x0_5', 'densenet_x0_5', 'igcv2_0_25', 'igcv3_d_0_7'),
    )
} | {
    # Large networks, of which only the first stage is tested.
    **{
        name: levels(name, out_indices=(0,))
        for name in ('se_shufflenet_v2_164', 'condensenet_g8_c8', 'pnasnet_5')
    },
    'v2_authors': levels(V2, style='authors'),
    'v1_authors': levels('shufflenet_v1_x0_5_g8', style='authors'),
    'snet': dict(type='SNet', depth=49, out_indices=(0, 1, 2, 3)),
}
# These do not support channels-last and refuse it.
CONTIGUOUS = {'condensenet_g8_c8', 'pnasnet_5'}
LATE = dict(strides=(2, 1, 1), dilations=(1, 2, 4))
LATER = dict(strides=(1, 2, 2, 1, 1), dilations=(1, 1, 1, 2, 4))
# Dilations instead of strides, from stride 8 on.
DILATED = {
    **dict.fromkeys((V2, STAR, 'v2_authors', V1, 'xception_x0_5'), LATE),
    **dict.fromkeys(('mobilenet_v1_x0_25', 'igcv2_0_25'), LATER),
    'mobilenet_v2_x0_15': dict(
        strides=(1, 2, 2, 1, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4, 4)
    ),
}
NETWORKS['v2_dilated'] = levels(V2, **LATE)
# Networks of other projects have contracts of their own.
EVERY = {
    name: levels(name)
    for name, row in zoo.NETWORKS.items()
    if issubclass(MODELS.get(row.config['type']), StagedBackbone)
} | NETWORKS
EVERY |= {name: levels(name) for name in EVERY.keys() & zoo.NETWORKS.keys()}


@pytest.fixture(params=NETWORKS)
def config(request) -> dict:
    return NETWORKS[request.param]


# For tensors and collections of them.
assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)


def build(config: dict, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS.build({**config, **changes})


def outlined(config: dict, **changes) -> torch.nn.Module:
    """A network on the meta device, which is fast to build."""
    with torch.device('meta'):
        return build(config, **changes)


def images(count: int = 2, size: tuple[int, int] = (32, 64)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, *size, generator=generator)


def loss(features) -> torch.Tensor:
    return sum(
        (f * torch.linspace(0, 1, f.shape[1])[:, None, None]).mean()
        for f in features
    )


@pytest.mark.parametrize('config', EVERY.values(), ids=EVERY)
def test_features_match_feature_info(config):
    backbone = outlined(config, norm_cfg=dict(type='SyncBN')).train()
    assert all(p.requires_grad for p in backbone.parameters())
    assert all(m.training for m in backbone.modules())
    for size in [(33, 47), (1, 1)]:
        features = backbone.eval()(torch.empty(1, 3, *size, device='meta'))
        assert isinstance(features, tuple)
        assert len(features) == len(config['out_indices'])
        for feature, info in zip(features, backbone.feature_info, strict=True):
            height, width = (-(-side // info['reduction']) for side in size)
            assert feature.shape == (1, info['num_chs'], height, width)


def test_levels_after_the_last_requested_one_are_not_built(config):
    backbone = outlined(config, out_indices=(0,))
    assert set(dict(backbone.named_children())) == {
        *backbone.stem_names,
        backbone.feature_info[0]['module'],
    }


@pytest.mark.parametrize('frozen_stages', [0, 1])
def test_frozen_parts_do_not_change_in_a_training_step(config, frozen_stages):
    backbone = build(config, frozen_stages=frozen_stages).train()
    frozen = (*backbone.stem_names, *backbone.stage_names[:frozen_stages])
    before = copy.deepcopy(backbone.state_dict())
    features = backbone(images())
    trained = [p for p in backbone.parameters() if p.requires_grad]
    # With everything frozen there is nothing to train.
    if trained:
        loss(features).backward()
        # A scale before a normalised layer has almost no gradient.
        torch.optim.SGD(trained, lr=1e4).step()
    for name, value in backbone.state_dict().items():
        # CondenseNet's channel indices are buffers, not weights.
        is_frozen = name.split('.')[0] in frozen or name.endswith('.index')
        assert torch.equal(value, before[name]) == is_frozen, name


@pytest.mark.parametrize('kind', ['BN', 'SyncBN'])
def test_norm_eval_covers_every_norm(config, kind):
    backbone = outlined(config, norm_cfg=dict(type=kind), norm_eval=True)
    backbone.train()
    found = [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
    assert found
    for norm in found:
        assert isinstance(norm, SyncBatchNorm) == (kind == 'SyncBN')
        assert not norm.training
    assert backbone.training


def test_checkpointed_equals_plain_and_saves_memory(config):
    runs = []
    for with_cp in False, True:
        backbone = build(config, with_cp=with_cp).train()
        with kept_for_backward() as kept:
            features = backbone(images())
        loss(features).backward()
        runs.append((features, backbone, sum(t.numel() for t in kept)))
    (plain, a, kept_plain), (again, b, kept_again) = runs
    assert kept_again < 0.7 * kept_plain
    assert_equal(again, plain)
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        # Every parameter gets a gradient.
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    # Recomputing a checkpointed unit must not count as another batch.
    assert_equal(dict(a.named_buffers()), dict(b.named_buffers()))


def test_checkpointing_compiles():
    config = {**NETWORKS[STAR], 'out_indices': (0,)}
    eager = build(config, with_cp=True, channels_last=False).train()
    module = copy.deepcopy(eager)
    compiled = torch.compile(module, backend='aot_eager', fullgraph=True)
    for backbone in (eager, compiled):
        loss(backbone(images())).backward()
    # Here, too, no batch may count twice.
    expected, got = (
        [p.grad for p in backbone.parameters()] + list(backbone.buffers())
        for backbone in (eager, module)
    )
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('name', sorted(NETWORKS.keys() - CONTIGUOUS))
def test_memory_layout_does_not_change_values(name, channels_last):
    config = NETWORKS[name]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    expected = build(config, channels_last=False).eval()(images())
    backbone = build(config, channels_last=channels_last).eval()
    # If one layer changed the layout, all later ones would be slower.
    layouts = []

    def note(unit, inputs, output):
        layouts.append(output.is_contiguous(memory_format=layout))

    for stage in backbone.stage_names:
        for unit in getattr(backbone, stage).children():
            unit.register_forward_hook(note)
    features = backbone(images())
    assert layouts
    assert all(layouts)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', DILATED)
def test_a_dilated_network_equals_the_strided_one_at_more_positions(name):
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


def test_scratch_weights_keep_the_scale_of_features(config):
    backbone = build(config)
    backbone.init_weights()
    for feature in backbone.train()(images()):
        assert 0.1 < feature.std() < 10


@pytest.mark.parametrize(
    'name, changes, allowed',
    [
        *((V2, dict(out_indices=bad), '0 to 3') for bad in ((), (1, 0), 9)),
        *((V2, dict(frozen_stages=bad), '-1, 0, 1') for bad in (9, 1.0, True)),
        *((V2, dict(norm_eval=bad), 'True, False') for bad in ('no', 0)),
        (V2, dict(strides=(3,) * 3), 'expected 3 values, each one of (1, 2)'),
        (V2, dict(dilations=2), 'expected 3 values'),
        (V2, dict(arch='v2_50'), "with arch='v2_50': expected one of"),
        (V1, dict(widen_factor=[1.0]), 'groups=3: expected one of 0.5, 1.0'),
        ('densenet_x0_5', dict(strides=(2, 2, 1)), 'each one of (2,)'),
        ('igcv3_d_0_7', dict(dilations=(1, 1, 1, 2)), 'each one of (1,)'),
        ('pnasnet_5', dict(channels_last=True), 'None, False'),
        ('snet', dict(depth=50), 'depth: expected one of 49, 146, 535'),
    ],
)
def test_an_invalid_value_is_rejected(name, changes, allowed):
    with pytest.raises(ValueError, match=r': expected .* got ') as error:
        outlined(NETWORKS[name], **changes)
    assert allowed in str(error.value)


def test_numpy_numbers_are_accepted():
    options = dict(groups=np.int64(3), widen_factor=np.float64(1))
    assert outlined(NETWORKS[V1], **options).out_channels[-1] == 960
