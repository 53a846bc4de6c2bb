"""What every backbone of this package promises.

A new family joins by adding its networks to ``NETWORKS``.
"""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

import mmdet_shufflenetv2  # noqa: F401  (registers the backbones)

V2 = dict(type='ShuffleNetV2', out_indices=(0, 1, 2, 3))
SMALL = dict(V2, widen_factor=0.5)
DEEP = dict(type='ShuffleNetV2', arch='v2_50', out_indices=(0, 1, 2, 3, 4))
# The two stages that a test has time for, of 133 million parameters.
SE_164 = dict(type='ShuffleNetV2', arch='se_v2_164', out_indices=(0, 1))
NETWORKS = {
    'shufflenet_v2_x0_5': SMALL,
    'shufflenet_v2_x1_0': dict(V2, widen_factor=1.0),
    'shufflenet_v2_x1_5': dict(V2, widen_factor=1.5),
    'shufflenet_v2_x2_0': dict(V2, widen_factor=2.0),
    'shufflenet_v2_star': dict(SMALL, receptive_field='enlarged'),
    'shufflenet_v2_se': dict(SMALL, with_se=True),
    'shufflenet_v2_residual': dict(SMALL, with_residual=True),
    'shufflenet_v2_authors': dict(V2, style='authors'),
    'shufflenet_v2_dilated': dict(
        SMALL, strides=(2, 2, 1), dilations=(1, 1, 2)
    ),
    'shufflenet_v2_50': DEEP,
    'se_shufflenet_v2_164': SE_164,
}


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


def norms(module) -> dict[str, dict[str, torch.Tensor]]:
    return {
        name: copy.deepcopy(dict(m.named_buffers()))
        for name, m in module.named_modules()
        if isinstance(m, _BatchNorm)
    }


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


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
        'stem',
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
    frozen = ('stem', *backbone.stage_names)[: frozen_stages + 1]
    before = copy.deepcopy(backbone.state_dict())
    features = backbone(images())
    trained = [p for p in backbone.parameters() if p.requires_grad]
    # A network may be frozen as a whole.
    if trained:
        loss(features).backward()
        torch.optim.SGD(trained, lr=0.1).step()
    for name, value in backbone.state_dict().items():
        is_frozen = name.split('.')[0] in frozen
        assert torch.equal(value, before[name]) == is_frozen, name


def test_nothing_is_frozen_by_default(config):
    backbone = outlined(config).train()
    assert all(p.requires_grad for p in backbone.parameters())
    assert all(m.training for m in backbone.modules())


@pytest.mark.parametrize('kind', ['BN', 'SyncBN'])
def test_norm_eval_covers_every_norm(config, kind):
    backbone = outlined(config, norm_eval=True, norm_cfg=dict(type=kind))
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
    for name, statistics in norms(plain).items():
        assert same(statistics, norms(checkpointed)[name]), name


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
def test_the_memory_layout_changes_no_value(config, channels_last):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    expected = build(config, channels_last=False).eval()(images())
    backbone = build(config, channels_last=channels_last).eval()
    # A layer that falls back to the other layout would cost every later one.
    layouts = []
    for name in backbone.stage_names:
        for unit in getattr(backbone, name):
            unit.register_forward_hook(
                lambda _, __, out: layouts.append(
                    out.is_contiguous(memory_format=layout)
                )
            )
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


@pytest.mark.parametrize(
    'out_indices', [(), (0, 0), (1, 0), (-1,), (0, 9), ('stage2',), 3]
)
def test_bad_out_indices_are_refused(config, out_indices):
    with pytest.raises(ValueError, match='out_indices must be an ascending'):
        outlined(config, out_indices=out_indices)


@pytest.mark.parametrize('frozen_stages', [-2, 9, None])
def test_bad_frozen_stages_are_refused(config, frozen_stages):
    with pytest.raises(ValueError, match='frozen_stages must be one of -1, 0'):
        outlined(config, frozen_stages=frozen_stages)
