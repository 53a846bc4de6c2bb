import dataclasses

import pytest
from matplotlib.image import imread

from mmdet_shufflenetv2.analysis.picture import draw
from mmdet_shufflenetv2.analysis.receptive_field import Field


@pytest.mark.parametrize(
    'field', [Field((3, 3), (2, 2)), Field(None, None, whole_by='mm')]
)
def test_picture_is_drawn(analysis, tmp_path, field):
    analysis = dataclasses.replace(analysis, fields={'level 0': field})
    path = tmp_path / 'analysis.png'
    draw(analysis, path)
    picture = imread(path)
    assert picture.shape[0] > 1000
    # Something of every colour of the plots is on it.
    assert picture[..., :3].std() > 0.05
