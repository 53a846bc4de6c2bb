import mmcv
import numpy as np
import pytest
from mmcv.image import geometric

from mmdet_shufflenetv2.compat.thin_images import keep_thin_images


@pytest.mark.parametrize('size', [(2, 3000), (3000, 2)])
def test_a_long_image_keeps_a_pixel_of_its_short_side(size):
    image = mmcv.imrescale(np.zeros((*size, 3), np.uint8), (480, 360))
    assert min(image.shape[:2]) == 1
    assert max(image.shape[:2]) == 480


def test_closing_the_gap_again_changes_nothing():
    before = geometric._scale_size
    keep_thin_images()
    assert geometric._scale_size is before
    assert before((640, 480), 0.5) == (320, 240)
