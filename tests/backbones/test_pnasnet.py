"""PNASNet-5 against pytorchcv and the paper."""

import pytest
import torch
from pytorchcv.models import pnasnet as library

from mmdet_shufflenetv2.backbones import PNASNet, pnasnet
from mmdet_shufflenetv2.backbones.pnasnet import Variant
from mmdet_shufflenetv2.backbones.zoo import Classifier

SEPARABLE = {
    'conv1.conv.dw_conv': '0.conv',
    'conv1.conv.pw_conv': '1.conv',
    'conv1.bn': '1.bn',
    'conv2.conv.dw_conv': '2.conv',
    'conv2.conv.pw_conv': '3.conv',
    'conv2.bn': '3.bn',
}
INPUTS = {
    'conv_1x1': 'squeeze',
    'conv_prev_1x1.path1.conv': 'match.conv1',
    'conv_prev_1x1.path2.conv': 'match.conv2',
    'conv_prev_1x1': 'match',
}


def renamed(theirs: library.PNASNet) -> dict[str, torch.Tensor]:
    """The library's weights under our names."""
    weights = {}
    for key, value in theirs.features.state_dict().items():
        home, rest = key.split('.', 1)
        if home == 'init_block':
            weights[f'stem.{rest}'] = value
            continue
        index = 0
        if home.startswith('stage'):
            unit, rest = rest.split('.', 1)
            index = int(unit.removeprefix('unit')) - 1
            home = f'stage{int(home[-1]) + 1}'
        else:
            home = 'stage1'
        name, leaf = rest.rsplit('.', 1)
        if name.startswith('comb'):
            block, name = name.split('.', 1)
            side = ['left', 'right'].index(block[6:])
            # Behind a pool there is a projection.
            name = SEPARABLE.get(name, f'1.{name}')
            name = f'blocks.{block[4]}.{side}.{name}'
        else:
            old = next(old for old in INPUTS if name.startswith(old))
            name = name.replace(old, INPUTS[old])
        weights[f'{home}.{index}.{name}.{leaf}'] = value
    return weights


def test_equals_pytorchcv_at_every_level(
    monkeypatch, randomised, assert_same_values
):
    monkeypatch.setitem(pnasnet.VARIANTS, 'small', Variant(6, 2, 8))
    theirs = randomised(
        library.PNASNet([[20, 40, 40], [80, 80], [160, 160]], 6, 10)
    )
    # Padded evenly, where the library follows TensorFlow.
    theirs.features.init_block.conv.padding = (1, 1)
    for module in theirs.modules():
        if isinstance(module, library.NasDwsConv | library.PnasMaxPoolBlock):
            module.extra_padding = False
    expected = []
    for unit in (
        theirs.features.stem1_unit,
        *(getattr(theirs.features, f'stage{i}')[-1] for i in (1, 2, 3)),
    ):
        unit.register_forward_hook(
            lambda _, __, out: expected.append(out.relu())
        )
    ours = PNASNet('small', out_indices=(0, 1, 2, 3)).eval()
    ours.load_state_dict(renamed(theirs))
    images = torch.randn(2, 3, 65, 96)
    theirs.features.final_pool = torch.nn.Identity()
    theirs.features(images)
    assert_same_values(ours(images), expected)


def test_no_pointwise_convolution_has_a_stride():
    # Channels-last, with few channels and at some sizes, the backward pass
    # of one writes beyond its memory (oneDNN's issue 6035).
    with torch.device('meta'):
        backbone = PNASNet(out_indices=(3,))
    convolutions = [
        m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)
    ]
    strided = [m for m in convolutions if m.stride != (1, 1)]
    assert strided
    assert all(m.kernel_size != (1, 1) for m in strided)


@pytest.mark.parametrize('arch, params_m', [('mobile', 5.1), ('large', 86.1)])
def test_parameters_are_the_papers(arch, params_m):
    with torch.device('meta'):
        classifier = Classifier(PNASNet(arch, out_indices=(3,)))
    count = sum(p.numel() for p in classifier.parameters())
    assert round(count / 1e6, 1) == params_m
