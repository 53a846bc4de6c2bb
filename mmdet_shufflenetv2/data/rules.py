"""The rules by which a box is left out, clipped or only named.

MMDetection leaves boxes out without a word when they are thinner than one
pixel, lie outside the image or have an ``area`` of zero.
"""

from dataclasses import replace

import numpy as np

from .table import MAX_EXAMPLES, BoxTable, DatasetError, shorten

#: COCO's boxes pass the image's border by rounding, other tools' boxes by a
#: pixel or two (inclusive corners); MMDetection clips both when it resizes.
BORDER_TOLERANCE_PX = 2.0
#: (image id, box) of the two flat boxes of COCO's training images, known since
#: their publication (cocoapi issue 355).
COCO_FLAT_BOXES = (
    (200365, (296.65, 388.33, 1.03, 0.0)),
    (550395, (9.98, 188.56, 5.54, 0.0)),
)


def box_rules(table: BoxTable) -> list[tuple[str, str, np.ndarray]]:
    """What is wrong, what is done about it, and which boxes it is said of.

    The first rule that a box breaks is the one it is under. 'left out' and
    'clipped' are errors, 'kept' is a warning.
    """
    boxes, sizes = table.boxes, table.sizes[table.image]
    thinnest = boxes[:, 2:].min(axis=1, initial=np.inf)
    with np.errstate(invalid='ignore', over='ignore'):
        low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        beyond = np.maximum(-low, high - sizes).max(axis=1)
        seen = np.minimum(high, sizes) - np.maximum(low, 0)
    flat = np.zeros(len(boxes), bool)
    for image_id, box in COCO_FLAT_BOXES:
        same = table.image_ids[table.image] == image_id
        flat |= same & (boxes == box).all(axis=1)
    px = f'{BORDER_TOLERANCE_PX:g} px beyond its image'
    return [
        ('flat box that COCO is known for', 'kept', flat),
        ('box with NaN or infinity', 'left out', ~np.isfinite(high).all(1)),
        ('box of negative width or height', 'left out', thinnest < 0),
        ('box of zero width or height', 'left out', thinnest == 0),
        ('box wholly outside its image', 'left out', (seen <= 0).any(axis=1)),
        (f'box more than {px}', 'clipped', beyond > BORDER_TOLERANCE_PX),
        ('box thinner than 1 px; left out in training', 'kept', thinnest < 1),
        (f'box up to {px}; clipped in training', 'kept', beyond > 0),
    ]


def apply_rules(table: BoxTable) -> BoxTable:
    """Drop, clip or only name the boxes that break a rule."""
    keep, free = np.ones((2, len(table.boxes)), bool)
    boxes, area = table.boxes.copy(), table.area.copy()
    for what, done, which in box_rules(table):
        at = np.flatnonzero(which & free)
        free &= ~which
        kind = what if done == 'kept' else f'{what}; {done}'
        problems = table.warnings if done == 'kept' else table.errors
        problems.add(kind, *at, describe=table.describe_box)
        for i in at[:MAX_EXAMPLES]:
            place = table.files[table.image[i]], table.boxes[i].tolist()
            problems.places.setdefault(kind, []).append(place)
        if done == 'left out':
            keep[at] = False
        elif done == 'clipped':
            size = table.sizes[table.image[at]]
            low = np.clip(boxes[at, :2], 0, size)
            high = np.clip(boxes[at, :2] + boxes[at, 2:], 0, size)
            boxes[at] = np.concatenate([low, high - low], axis=1)
            area[at] = np.minimum(area[at], (high - low).prod(axis=1))
    return replace(table, boxes=boxes, area=area).keep_boxes(keep)


def require_trainable(table: BoxTable) -> None:
    """Refuse to train on nothing; names the likely cause."""
    if (table.learned() & ~table.crowd).any():
        return
    cause = 'all boxes are thinner than 1 px, or crowds'
    if not len(table.boxes):
        names = shorten(table.classes) or '(none)'
        cause = f'{len(table)} images, but no box of the classes {names}'
    elif (table.boxes <= 1).all():
        cause = (
            'all boxes lie between 0 and 1: they are shares of the image, and '
            f'{table.source.format} has pixels'
        )
    raise DatasetError(
        f'{table.title}: nothing to train on: {cause}{table.errors}'
    )
