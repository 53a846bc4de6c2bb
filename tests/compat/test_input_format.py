"""The input format in a checkpoint's metadata.

Its comparison with what a model gets is in `engine/test_runner.py`.
"""

import pytest

from mmdet_shufflenetv2.compat.checkpoints import CheckpointError
from mmdet_shufflenetv2.compat.input_format import declared_format


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
