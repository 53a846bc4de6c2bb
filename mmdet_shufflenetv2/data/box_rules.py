"""Which boxes of an annotation file are wrong, and which are only odd.

MMDetection leaves boxes out without a word when they are thinner than one
pixel, lie outside the image or have an ``area`` of zero. An object must not
vanish silently, so each of these is named here; what COCO's own files contain
is a warning, everything worse is an error.

Legend: K annotations; boxes are (x, y, width, height) in pixels.
"""

from typing import NamedTuple

import numpy as np

#: COCO's boxes pass the image's border by rounding, other tools' boxes by a
#: pixel or two (inclusive corners); MMDetection clips both when it resizes.
BORDER_TOLERANCE_PX = 2.0
#: (annotation id, image id, box) of the two flat boxes of COCO's training
#: images, known since their publication (cocoapi issue 355).
COCO_FLAT_BOXES = (
    (918, 200365, (296.65, 388.33, 1.03, 0.0)),
    (2206849, 550395, (9.98, 188.56, 5.54, 0.0)),
)


class BoxRule(NamedTuple):
    """``remedy`` is what ``on_bad_boxes='drop'`` does: 'drop' or 'clip'."""

    what: str
    remedy: str


ERRORS = {
    'not_finite': BoxRule('box with NaN or infinity', 'drop'),
    'negative': BoxRule('box of negative width or height', 'drop'),
    'empty': BoxRule('box of zero width or height', 'drop'),
    'outside': BoxRule('box wholly outside its image', 'drop'),
    'beyond': BoxRule(
        f'box more than {BORDER_TOLERANCE_PX:g} px beyond its image', 'clip'
    ),
}
WARNINGS = {
    'coco_flat': 'flat box that COCO is known for; left out in training',
    'thin': 'box thinner than 1 px; left out in training',
    'border': (
        f'box up to {BORDER_TOLERANCE_PX:g} px beyond its image; clipped in '
        'training'
    ),
}


def classify_boxes(
    boxes: np.ndarray,
    sizes: np.ndarray,
    ann_ids: np.ndarray,
    image_ids: np.ndarray,
) -> dict[str, np.ndarray]:
    """Sort out the boxes that break a rule; each breaks at most one.

    Args:
        boxes: float64 (K, 4).
        sizes: float64 (K, 2): width and height of each box's image.
        ann_ids: int64 (K,).
        image_ids: int64 (K,).

    Returns:
        For every key of ``ERRORS`` and ``WARNINGS`` the indices of the boxes,
        ascending.
    """
    x, y, width, height = boxes.T
    low = np.minimum(width, height)
    known = np.zeros(len(boxes), bool)
    for ann_id, image_id, box in COCO_FLAT_BOXES:
        same = (ann_ids == ann_id) & (image_ids == image_id)
        known |= same & (boxes == box).all(axis=1)
    with np.errstate(invalid='ignore', over='ignore'):
        over_x = np.maximum(-x, x + width - sizes[:, 0])
        over_y = np.maximum(-y, y + height - sizes[:, 1])
        over = np.maximum(over_x, over_y)
        seen = np.minimum(
            np.minimum(x + width, sizes[:, 0]) - np.maximum(x, 0),
            np.minimum(y + height, sizes[:, 1]) - np.maximum(y, 0),
        )
    # In this order: the first rule that a box breaks is the one it is under.
    broken = {
        'coco_flat': known,
        'not_finite': ~np.isfinite(boxes).all(axis=1),
        'negative': low < 0,
        'empty': low == 0,
        'outside': seen <= 0,
        'beyond': over > BORDER_TOLERANCE_PX,
        'thin': low < 1,
        'border': over > 0,
    }
    free = np.ones(len(boxes), bool)
    found = {}
    for rule, mask in broken.items():
        found[rule] = np.flatnonzero(mask & free)
        free &= ~mask
    return found


def clip_box(box: np.ndarray, size: np.ndarray) -> list[float]:
    """The part of a box inside an image of (width, height)."""
    x, y, width, height = map(float, box)
    x0, y0 = max(x, 0.0), max(y, 0.0)
    x1 = min(x + width, float(size[0]))
    y1 = min(y + height, float(size[1]))
    return [x0, y0, x1 - x0, y1 - y0]
