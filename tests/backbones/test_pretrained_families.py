"""A checkpoint of another family is refused with that family's name."""

import pytest
import torch
from mmdet.registry import MODELS
from pytorchcv.models.igcv3 import igcv3_wd4
from pytorchcv.models.mobilenet import mobilenet_wd4
from pytorchcv.models.shufflenet import shufflenet_g1_wd2
from torchvision.models import mobilenet_v2, resnet18, shufflenet_v2_x0_5

from mmdet_shufflenetv2.backbones.pretrained import load_pretrained

FAMILIES = {
    'ShuffleNetV2': dict(type='ShuffleNetV2', widen_factor=0.5),
    'ShuffleNetV1': dict(type='ShuffleNetV1', widen_factor=0.5),
    'MobileNetV1': dict(type='MobileNetV1', widen_factor=0.25),
    'MobileNetV2': dict(type='StagedMobileNetV2', widen_factor=0.15),
    'Xception': dict(type='Xception', widen_factor=0.5),
    'DenseNet': dict(type='DenseNet', widen_factor=0.5),
    'IGCV2': dict(type='IGCV2', widen_factor=0.25),
    'PNASNet': dict(type='PNASNet', out_indices=(0, 1)),
    'IGCV3': dict(type='PytorchcvBackbone', arch='igcv3_d_x0_7'),
}
FOREIGN = {
    'ShuffleNetV2 in the format of torchvision': shufflenet_v2_x0_5,
    'ShuffleNetV1 in the format of pytorchcv': shufflenet_g1_wd2,
    'MobileNetV1 in the format of pytorchcv': mobilenet_wd4,
    'IGCV3 in the format of pytorchcv': igcv3_wd4,
    'MobileNetV2 in the format of torchvision': mobilenet_v2,
    'ResNet in the format of torchvision': resnet18,
}


def refusal(family: str, path) -> str:
    with torch.device('meta'):
        backbone = MODELS.build(FAMILIES[family])
    with pytest.raises(ValueError, match='none of the formats') as error:
        load_pretrained(backbone, str(path))
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize('family', FAMILIES)
def test_the_family_of_our_own_checkpoint_is_named(family, saved):
    path = saved(MODELS.build(FAMILIES[family]).state_dict())
    expected = f'looks like {family} in the format of mmdet_shufflenetv2'
    for other in FAMILIES:
        if other != family:
            assert expected in refusal(other, path)


@pytest.mark.parametrize('likeness', FOREIGN)
def test_the_family_of_a_checkpoint_from_elsewhere_is_named(likeness, saved):
    path = saved(FOREIGN[likeness]().state_dict())
    for family in FAMILIES:
        if not likeness.startswith(family):
            assert f'it looks like {likeness}' in refusal(family, path)


def test_keys_of_an_unknown_network_are_shown(saved):
    text = refusal('Xception', saved({'blocks.0.weight': torch.zeros(1)}))
    assert 'looks like' not in text
    assert 'its keys are blocks.0.weight' in text
