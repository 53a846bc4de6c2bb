"""A drawn detection scene: objects that hide each other, and their masks.

An object's mask holds the pixels of it that are seen (modal, as COCO's
annotators drew), so box and area come exactly from what is in the picture.
"""

import math
from dataclasses import dataclass

import numpy as np

from .drawing import (
    SHAPES,
    Placement,
    RandomSource,
    background,
    blend,
    near,
    rasterize,
    texture,
)

CLASSES = tuple(SHAPES)
#: As apples are red: most objects have their class's colour, give or take.
#: Colour alone does not tell the class, but it makes minutes of training
#: count.
USUAL_COLORS = {
    'circle': (210.0, 50.0, 50.0),
    'square': (50.0, 80.0, 215.0),
    'triangle': (230.0, 200.0, 40.0),
    'star': (50.0, 170.0, 70.0),
    'ring': (165.0, 60.0, 190.0),
    'cross': (40.0, 195.0, 205.0),
}
#: Square roots of the areas in pixels, inside COCO's three ranges.
SIZES = {'small': (13, 31), 'medium': (34, 94), 'large': (100, 125)}


@dataclass(frozen=True)
class SceneSpec:
    """How a scene is drawn.

    Args:
        width: Pixels; at least 64.
        height: Pixels; at least 64. Below about 192 no large object fits.
        objects: Fewest and most objects tried in a picture that has any.
        size_weights: How often small, medium and large are tried.
        empty_rate: Share of the pictures without an object.
        crowd_rate: Share of the other pictures that have a crowd.
        distractors: Most lines and blobs that belong to no class.
        min_visible: Share of an object's area that always stays seen.
        usual_color: Share of the objects that have their class's colour.
        min_contrast: Smallest distance of an object's colour from what
            was there, in RGB.
        noise: Amplitude of the grain over the finished picture.
    """

    width: int = 256
    height: int = 192
    objects: tuple[int, int] = (4, 10)
    size_weights: tuple[float, float, float] = (0.15, 0.6, 0.25)
    empty_rate: float = 0.05
    crowd_rate: float = 0.1
    distractors: int = 7
    min_visible: float = 0.7
    usual_color: float = 0.9
    min_contrast: float = 90.0
    noise: float = 12.0

    def __post_init__(self) -> None:
        for name in ('width', 'height'):
            if getattr(self, name) < 64:
                raise ValueError(
                    f'{name} must be at least 64 pixels, but got '
                    f'{getattr(self, name)}'
                )
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise ValueError(
                'objects must be (fewest, most) with 1 <= fewest <= most, '
                f'but got {self.objects}'
            )
        for name in (
            'empty_rate',
            'crowd_rate',
            'min_visible',
            'usual_color',
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f'{name} must lie in [0, 1], but got {getattr(self, name)}'
                )


@dataclass(frozen=True)
class Instance:
    """``mask`` is bool (H, W); a crowd is one instance of many shapes."""

    label: int
    mask: np.ndarray
    iscrowd: bool


@dataclass(frozen=True)
class Scene:
    """``image`` is RGB uint8 (H, W, 3)."""

    image: np.ndarray
    instances: list[Instance]


class Canvas:
    """The picture so far and which object is seen at each pixel."""

    def __init__(self, rng: RandomSource, spec: SceneSpec) -> None:
        self.rng, self.spec = rng, spec
        self.picture = background(
            rng, spec.height, spec.width, spec.distractors
        )
        self.owner = np.zeros((spec.height, spec.width), np.int16)
        # Index 0 is the background, which may be hidden altogether.
        self.full_area = [0.0]
        self.labels = [-1]
        self.crowds = [False]

    def add_owner(self, label: int, iscrowd: bool) -> int:
        self.full_area.append(0.0)
        self.labels.append(label)
        self.crowds.append(iscrowd)
        return len(self.labels) - 1

    def try_paint(
        self, owner: int, place: Placement, fill: tuple | None = None
    ) -> bool:
        """Draw for an owner unless it would hide too much of anything."""
        spec = self.spec
        name = CLASSES[self.labels[owner]]
        patch = rasterize(name, place, spec.height, spec.width)
        if patch is None:
            return False
        mask = patch.coverage >= 0.5
        area = SHAPES[name].area * place.radius**2 * place.squeeze
        if mask.sum() < max(spec.min_visible * area, 40):
            return False
        hidden = np.bincount(
            self.owner[patch.window][mask], minlength=len(self.labels)
        )
        seen = np.bincount(self.owner.ravel(), minlength=len(self.labels))
        for other in range(1, len(self.labels)):
            left = seen[other] - hidden[other]
            if (
                other != owner
                and hidden[other]
                and (left < max(spec.min_visible * self.full_area[other], 40))
            ):
                return False
        fill = fill or self.pick_fill(owner, patch.window, mask)
        paint = texture(self.rng, *mask.shape, *fill)
        blend(self.picture, patch, paint)
        self.owner[patch.window][mask] = owner
        self.full_area[owner] += area
        return True

    def pick_fill(self, owner: int, window, mask) -> tuple:
        """Two colours, the first far enough from what is there now."""
        rng = self.rng
        usual = rng.chance(self.spec.usual_color)
        own = USUAL_COLORS[CLASSES[self.labels[owner]]]
        there = self.picture[window][mask]
        # A whole-number mean: float sums depend on the order of adding.
        mean = there.astype(np.int64).sum(axis=0) / len(there)
        fill, best = (rng.color(), rng.color()), -1.0
        for _ in range(12):
            first = near(rng, own, 45.0) if usual else rng.color()
            contrast = math.dist(first, mean)
            if contrast > best:
                spread = rng.uniform(-60, 60)
                second = tuple(min(255.0, max(0.0, c + spread)) for c in first)
                fill, best = (first, second), contrast
            if best >= self.spec.min_contrast:
                break
        return fill

    def scene(self) -> Scene:
        spec = self.spec
        grain = self.rng.array(spec.height, spec.width, 3) - 0.5
        picture = self.picture + grain * spec.noise
        image = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
        instances = []
        for owner in range(1, len(self.labels)):
            mask = self.owner == owner
            if mask.any():
                label, crowd = self.labels[owner], self.crowds[owner]
                instances.append(Instance(label, mask, crowd))
        return Scene(image, instances)


def _radius(rng: RandomSource, label: int, squeeze: float, spec: SceneSpec):
    side = rng.uniform(*SIZES[rng.pick(tuple(SIZES), spec.size_weights)])
    radius = side / math.sqrt(SHAPES[CLASSES[label]].area * squeeze)
    return min(radius, 0.55 * min(spec.height, spec.width))


def _add_object(canvas: Canvas) -> None:
    rng, spec = canvas.rng, canvas.spec
    label = rng.below(len(CLASSES))
    owner = canvas.add_owner(label, iscrowd=False)
    squeeze = rng.uniform(0.75, 1.0)
    for _ in range(10):
        radius = _radius(rng, label, squeeze, spec)
        place = Placement(
            rng.uniform(0.0, spec.width),
            rng.uniform(0.0, spec.height),
            radius,
            rng.uniform(),
            squeeze,
        )
        if canvas.try_paint(owner, place):
            return


def _add_crowd(canvas: Canvas) -> None:
    """Many small shapes of one class and colour, close together."""
    rng, spec = canvas.rng, canvas.spec
    owner = canvas.add_owner(rng.below(len(CLASSES)), iscrowd=True)
    reach_x, reach_y = rng.uniform(24, 44), rng.uniform(18, 30)
    x = rng.uniform(reach_x, spec.width - reach_x)
    y = rng.uniform(reach_y, spec.height - reach_y)
    everything = (slice(None), slice(None))
    here = np.ones((spec.height, spec.width), bool)
    fill = canvas.pick_fill(owner, everything, here)
    for _ in range(10 + rng.below(15)):
        place = Placement(
            x + rng.uniform(-reach_x, reach_x),
            y + rng.uniform(-reach_y, reach_y),
            rng.uniform(6, 9),
            rng.uniform(),
        )
        canvas.try_paint(owner, place, fill)


def draw_scene(rng: RandomSource, spec: SceneSpec) -> Scene:
    """Draw one picture; every object in it is among its instances."""
    canvas = Canvas(rng, spec)
    if not rng.chance(spec.empty_rate):
        if rng.chance(spec.crowd_rate):
            _add_crowd(canvas)
        fewest, most = spec.objects
        for _ in range(fewest + rng.below(most - fewest + 1)):
            _add_object(canvas)
    return canvas.scene()
