from matplotlib.image import imread

from mmdet_shufflenetv2.analysis.picture import draw


def test_picture_is_drawn(analysis, tmp_path):
    path = tmp_path / 'analysis.png'
    draw(analysis, path)
    picture = imread(path)
    assert picture.shape[0] > 1000
    # Something of every colour of the plots is on it.
    assert picture[..., :3].std() > 0.05
