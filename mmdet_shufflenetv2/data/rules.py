"""Rules that decide which boxes are left out, clipped, or kept with a warning.

MMDetection itself silently drops boxes that are thinner than one pixel, lie
outside the image or have an ``area`` of zero.
"""

from dataclasses import replace

import numpy as np

from .table import MAX_EXAMPLES, BoxTable, DatasetError, shorten

#: COCO's boxes extend beyond the image by rounding, those of other tools by a
#: pixel or two (inclusive corners). MMDetection clips both in its resize.
BORDER_TOLERANCE_PX = 2.0
#: (image id, box) of the two flat boxes in COCO's training set, which have
#: been there since its release (cocoapi issue 355).
COCO_FLAT_BOXES = (
    (200365, (296.65, 388.33, 1.03, 0.0)),
    (550395, (9.98, 188.56, 5.54, 0.0)),
)


def box_rules(table: BoxTable) -> list[tuple[str, str, np.ndarray]]:
    """Return each rule: the problem, the action, and which boxes have it.

    The first rule that matches a box applies. The actions 'left out' and
    'clipped' are errors, 'kept' is a warning.
    """
    boxes, sizes = table.boxes, table.sizes[table.image]
    thinnest = boxes[:, 2:].min(axis=1, initial=np.inf)
    with np.errstate(invalid='ignore', over='ignore'):
        low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        beyond = np.maximum(-low, high - sizes).max(axis=1)
        visible = np.minimum(high, sizes) - np.maximum(low, 0)
    flat = np.zeros(len(boxes), bool)
    for image_id, box in COCO_FLAT_BOXES:
        same = table.image_ids[table.image] == image_id
        flat |= same & (boxes == box).all(axis=1)
    px = f'{BORDER_TOLERANCE_PX:g} px beyond its image'
    return [
        ('flat box known to be in COCO', 'kept', flat),
        ('box with NaN or infinity', 'left out', ~np.isfinite(high).all(1)),
        ('box of negative width or height', 'left out', thinnest < 0),
        ('box of zero width or height', 'left out', thinnest == 0),
        ('box wholly outside its image', 'left out', (visible <= 0).any(1)),
        (f'box more than {px}', 'clipped', beyond > BORDER_TOLERANCE_PX),
        ('box thinner than 1 px; left out in training', 'kept', thinnest < 1),
        (f'box up to {px}; clipped in training', 'kept', beyond > 0),
    ]


def apply_rules(table: BoxTable) -> BoxTable:
    """Leave out, clip or only report the boxes that match a rule."""
    keep, unmatched = np.ones((2, len(table.boxes)), bool)
    boxes, area = table.boxes.copy(), table.area.copy()
    for problem, action, which in box_rules(table):
        at = np.flatnonzero(which & unmatched)
        unmatched &= ~which
        kind = problem if action == 'kept' else f'{problem}; {action}'
        problems = table.warnings if action == 'kept' else table.errors
        problems.add(kind, *at, describe=table.describe_box)
        for i in at[:MAX_EXAMPLES]:
            image, box = table.image[i], table.boxes[i].tolist()
            place = table.files[image], table.shape(image), box
            problems.places.setdefault(kind, []).append(place)
        if action == 'left out':
            keep[at] = False
        elif action == 'clipped':
            size = table.sizes[table.image[at]]
            low = np.clip(boxes[at, :2], 0, size)
            high = np.clip(boxes[at, :2] + boxes[at, 2:], 0, size)
            boxes[at] = np.concatenate([low, high - low], axis=1)
            area[at] = np.minimum(area[at], (high - low).prod(axis=1))
    return replace(table, boxes=boxes, area=area).keep_boxes(keep)


def require_trainable(table: BoxTable) -> None:
    """Raise an error with the likely cause if no box can be trained on."""
    if (table.learned() & ~table.crowd).any():
        return
    cause = 'all boxes are thinner than 1 px or crowds'
    if not len(table.boxes):
        names = shorten(table.classes) or '(none)'
        cause = f'{len(table)} images, but no box of the classes {names}'
    elif (table.boxes <= 1).all():
        cause = (
            'all boxes lie between 0 and 1: expected pixels, as in '
            f'{table.source.format} format, got fractions of the image size'
        )
    raise DatasetError(
        f'{table.title}: nothing to train on: {cause}{table.errors}'
    )
