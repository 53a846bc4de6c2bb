"""The adapter over pytorchcv against pytorchcv itself."""

import socket
import sys

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from pytorchcv.models import condensenet, igcv3, nasnet, senet

from mmdet_shufflenetv2.backbones import PytorchcvBackbone
from mmdet_shufflenetv2.backbones.pytorchcv_networks import ARCHITECTURES

# The library's own, and where its levels end.
THEIRS = {
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
        ('stem1_unit', 'stage1.unit4', 'stage2.unit5', 'stage3.unit5'),
    ),
}


@pytest.fixture(params=THEIRS)
def pair(request, randomised, saved):
    """Our backbone and the library's network with the same weights.

    In double precision: random weights amplify rounding by 10 a stage.
    """
    build, ends = THEIRS[request.param]
    theirs = randomised(build())
    theirs.features.final_pool = nn.Identity()
    generator = torch.Generator().manual_seed(0)
    for name, index in theirs.named_buffers():
        if name.endswith('.index'):
            index.random_(len(index), generator=generator)
    checkpoint = str(saved(theirs.state_dict()))
    ours = PytorchcvBackbone(
        request.param,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
    )
    ours.init_weights()
    return ours.double().eval(), theirs.double(), ends


def their_features(theirs, ends, images) -> list[torch.Tensor]:
    found = []
    hooks = [
        theirs.features.get_submodule(end).register_forward_hook(
            lambda _, __, out: found.append(out.clone())
        )
        for end in ends
    ]
    theirs.features(images)
    for hook in hooks:
        hook.remove()
    # Cells begin with their activation.
    cells = isinstance(theirs, nasnet.NASNet)
    return [feature.relu() if cells else feature for feature in found]


def test_checkpoints_of_pytorchcv_load_and_give_its_features(
    pair, assert_same_values
):
    ours, theirs, ends = pair
    images = torch.randn(2, 3, 64, 96, dtype=torch.double)
    assert_same_values(ours(images), their_features(theirs, ends, images))


def test_other_sizes_are_those_of_the_padded_image(pair, assert_same_values):
    ours, theirs, ends = pair
    images = torch.randn(1, 3, 33, 47, dtype=torch.double)
    padded = images
    # IGCV3 takes any size itself.
    if not isinstance(theirs, igcv3.IGCV3):
        padded = F.pad(images, (0, 17, 0, 31))
    expected = [
        feature[..., : -(-33 // stride), : -(-47 // stride)]
        for feature, stride in zip(
            their_features(theirs, ends, padded), ours.strides, strict=True
        )
    ]
    assert_same_values(ours(images), expected)


def test_every_unit_of_the_library_is_in_one_level():
    with torch.device('meta'):
        theirs = senet.senet154()
        ours = PytorchcvBackbone('senet_154', out_indices=(0, 1, 2, 3))
    library = ours.formats[1]
    renamed = {
        library.to_ours(key): value.shape
        for key, value in theirs.state_dict().items()
        if not key.startswith(library.classifier)
    }
    assert renamed == {k: v.shape for k, v in ours.state_dict().items()}


def test_untrained_groups_of_condensenet_read_every_earlier_unit():
    backbone = PytorchcvBackbone('condensenet_g4_c4', out_indices=(0,))
    for module in backbone.modules():
        if hasattr(module, 'index'):
            count = len(module.index)
            assert module.index.sort().values.tolist() == list(range(count))
            for group in module.index.chunk(4):
                # A unit adds 8 or 16 channels, of which each gets its share.
                assert {int(i) // 8 for i in group} == set(range(count // 8))


@pytest.mark.parametrize('arch', ['igcv3_d_x0_7', 'nasnet_a_4_1056'])
def test_another_norm_takes_the_place_of_every_batch_norm(arch):
    with torch.device('meta'):
        plain = PytorchcvBackbone(arch)
        backbone = PytorchcvBackbone(arch, norm_cfg=dict(type='SyncBN'))
    norms = [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
    others = [m for m in backbone.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert [m.num_features for m in others] == [m.num_features for m in norms]
    assert [m.eps for m in others] == [m.eps for m in norms]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())


def test_a_norms_own_eps_wins_over_the_librarys():
    norm_cfg = dict(type='BN', eps=0.125)
    with torch.device('meta'):
        backbone = PytorchcvBackbone('igcv3_d_x1_0', norm_cfg=norm_cfg)
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {0.125}


def test_nothing_is_downloaded(monkeypatch):
    def refuse(*_):
        raise AssertionError('a connection was opened')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    for arch in ARCHITECTURES:
        PytorchcvBackbone(arch, out_indices=(0,)).init_weights()


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pytorchcv.models.igcv3', None)
    with pytest.raises(ImportError, match=r'pip install .pytorchcv==0\.0\.74'):
        PytorchcvBackbone('igcv3_d_x1_0')
