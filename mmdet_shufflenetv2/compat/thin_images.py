"""mmcv rounds the short side of a long image to no pixel at all.

A picture of 3000 x 2, to fit into 480 x 360, would get a height of 0, and
OpenCV stops the run with an assertion that names no file.
"""

import functools

from mmcv.image import geometric


def keep_thin_images() -> None:
    """Let every image keep a pixel in each direction when it is resized."""
    scale_size = geometric._scale_size
    if hasattr(scale_size, '__wrapped__'):
        return

    @functools.wraps(scale_size)
    def at_least_one(*args, **kwargs) -> tuple[int, int]:
        width, height = scale_size(*args, **kwargs)
        return max(1, width), max(1, height)

    geometric._scale_size = at_least_one
