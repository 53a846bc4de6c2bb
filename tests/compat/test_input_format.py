"""The input that weights expect, and the one that a model feeds."""

import pytest
from torch import nn

from mmdet_shufflenetv2.compat.checkpoints import CheckpointError
from mmdet_shufflenetv2.compat.input_format import (
    NORMALISED_RGB,
    RAW_BGR,
    InputFormat,
    declared_format,
    delivered_format,
    require_same_input,
)

# isort: split
from mmdet.models import DetDataPreprocessor
from mmpretrain.models.utils import ClsDataPreprocessor

PREPROCESSORS = {
    'DetDataPreprocessor': DetDataPreprocessor,
    'ClsDataPreprocessor': ClsDataPreprocessor,
}
FORMATS = [NORMALISED_RGB, RAW_BGR, InputFormat('BGR', (1, 2, 3), (4, 5, 6))]


def model_with(preprocessor) -> nn.Module:
    model = nn.Module()
    model.data_preprocessor = preprocessor
    return model


@pytest.mark.parametrize('expected', FORMATS, ids=str)
@pytest.mark.parametrize('kind', PREPROCESSORS)
def test_options_make_a_preprocessor_produce_the_format(kind, expected):
    options = expected.preprocessor_options(dict(type=f'mmx.{kind}'))
    preprocessor = PREPROCESSORS[kind](**options)
    assert delivered_format(preprocessor) == expected
    require_same_input('x.pth', expected, model_with(preprocessor))
    meta = dict(input_format=expected.to_meta())
    assert declared_format(dict(meta=meta), 'x.pth') == expected


@pytest.mark.parametrize(
    'stored',
    [
        dict(order='RGB'),
        dict(channel_order='GBR'),
        dict(channel_order='RGB', mean=[1]),
        dict(channel_order='RGB', std=['a', 'b', 'c']),
        'RGB',
    ],
)
def test_an_invalid_format_is_rejected(stored):
    with pytest.raises(CheckpointError, match='channel_order, mean and std'):
        declared_format(dict(meta=dict(input_format=stored)), 'x.pth')


@pytest.mark.parametrize('preprocessor', [None, nn.Identity()])
def test_a_preprocessor_without_known_settings_is_accepted(preprocessor):
    assert delivered_format(preprocessor) is None
    require_same_input('x.pth', RAW_BGR, model_with(preprocessor))
