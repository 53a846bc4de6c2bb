"""Synthetic pictures of shapes on clutter, to try out everything without data.

Objects occlude each other; the box and area of an object are those of its
visible pixels, as in COCO. The same options give the same pictures with the
same versions of NumPy and OpenCV.

Legend: H rows, W columns; points are (x, y) in pixels; colours are BGR.
"""

import json
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from .table import DatasetError

#: Ranges of the square root of the area in pixels, one within each of COCO's
#: size classes, and their probabilities. Large objects need about 192 rows.
SIZES, SIZE_RATES = ((13, 31), (34, 94), (100, 125)), (0.15, 0.6, 0.25)
#: Minimum and maximum number of objects in a picture that is not empty.
OBJECTS = (4, 10)
EMPTY_RATE, CROWD_RATE = 0.05, 0.1
#: Minimum visible fraction of an object's area, and minimum visible pixels.
MIN_VISIBLE, MIN_PIXELS = 0.7, 40
#: Intended distance of an object's colour from the mean colour behind it.
MIN_CONTRAST = 90.0
#: Incremented whenever the same options give different pictures.
VERSION = 4


def _ngon(sides: int, radius: float = 1.0, turn: float = 0.0) -> np.ndarray:
    angles = 2 * np.pi * (np.arange(sides) / sides + turn)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


_STAR = np.stack([_ngon(5), _ngon(5, 0.381966, 0.1)], 1).reshape(-1, 2)
_ARM = np.array([(1, 0.3), (0.3, 0.3), (0.3, 1)])
_CROSS = [_ARM, _ARM[::-1] * (-1, 1), -_ARM, _ARM[::-1] * (1, -1)]
#: By class, in label order: the approximate colour of most objects, and the
#: outline and hole inside a circle of radius 1. The colour does not determine
#: the class, but lets a few minutes of training suffice.
SHAPES = {
    'circle': ((50, 50, 210), [_ngon(64)]),
    'square': ((215, 80, 50), [_ngon(4, 0.8 * math.sqrt(2), 0.125)]),
    'triangle': ((40, 200, 230), [_ngon(3)]),
    'star': ((70, 170, 50), [_STAR]),
    'ring': ((190, 60, 165), [_ngon(64), _ngon(48, 0.48)]),
    'cross': ((205, 195, 40), [np.concatenate(_CROSS)]),
}
CLASSES = tuple(SHAPES)
COLORS, OUTLINES = zip(*SHAPES.values(), strict=True)


@cache
def _area(label: int) -> float:
    """Return the area of a shape of radius 1, without its hole."""
    whole, *hole = (cv2.contourArea(np.float32(p)) for p in OUTLINES[label])
    return whole - sum(hole)


def draw_picture(
    key: tuple[int, ...],
    width: int = 256,
    height: int = 192,
    empty_rate: float = EMPTY_RATE,
) -> tuple[np.ndarray, list[dict]]:
    """Draw objects over clutter, seeded with ``key``.

    Returns:
        The picture, BGR uint8 (H, W, 3), and its objects as COCO annotations;
        a crowd is one object.
    """
    canvas = _Canvas(np.random.default_rng(key), width, height)
    rng = canvas.rng
    if rng.random() >= empty_rate:
        if rng.random() < CROWD_RATE:
            canvas.add_crowd()
        for _ in range(rng.integers(OBJECTS[0], OBJECTS[1] + 1)):
            canvas.add_object()
    return canvas.finish()


def draw_crop(key: tuple[int, ...], label: int, side: int = 64) -> np.ndarray:
    """Draw one shape of a class, in half of the cases in a random colour."""
    canvas = _Canvas(np.random.default_rng(key), side, side, 4, 0.5)
    rng = canvas.rng
    owner = canvas.new_owner(label)
    while True:
        squeeze = rng.uniform(0.6, 1.0)
        size = side * rng.uniform(0.25, 0.75)
        center = side * rng.uniform(0.3, 0.7, 2)
        radius = size / math.sqrt(_area(label) * squeeze)
        # Try again if too much of the shape would lie outside.
        if canvas.try_paint(owner, center, radius, squeeze):
            return canvas.finish()[0]


def _near(rng, color, spread: float) -> np.ndarray:
    return np.clip(color + rng.uniform(-spread, spread, 3), 0, 255)


def _smooth(rng, shape, rows: int, columns: int) -> np.ndarray:
    """Return a coarse random grid from 0 to 1, enlarged to ``shape``."""
    grid = rng.random((rows, columns), np.float32)
    return cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_LINEAR)


def _texture(rng, shape, first, second) -> np.ndarray:
    """Mix two colours in blobs, stripes or noise, float32 (H, W, 3)."""
    cells, kind = int(rng.integers(3, 11)), rng.integers(4)
    if kind == 1:
        angle, period = rng.uniform(0, 2 * np.pi), rng.uniform(5, 24)
        y, x = np.indices(shape, np.float32)
        phase = (x * np.cos(angle) + y * np.sin(angle)) / period
        mix = np.abs(2 * (phase % 1) - 1)
    elif kind == 3:
        mix = rng.random(shape, np.float32)
    else:
        cells = cells if kind else 2
        mix = _smooth(rng, shape, cells, cells)
    first, second = np.float32(first), np.float32(second)
    return first + (second - first) * mix[..., None]


class _Canvas:
    """The picture so far, and the owner of each pixel.

    Owners are objects, numbered from 1; 0 is the background.
    """

    def __init__(
        self, rng, width, height, clutter: int = 7, usual: float = 0.9
    ) -> None:
        self.rng, self.shape, self.usual = rng, (height, width), usual
        self.owner = np.zeros(self.shape, np.int32)
        self.labels, self.painted, self.crowds = [-1], [0], set()
        self.picture = self._layer()
        for _ in range(rng.integers(1, 3)):
            layer = self._layer()
            mix = _smooth(rng, self.shape, 4, 5) * rng.uniform(0.3, 1.0)
            self._blend(mix, layer)
        for _ in range(rng.integers(clutter + 1)):
            self._add_clutter()

    def _layer(self) -> np.ndarray:
        color = self.rng.uniform(0, 255, 3)
        second = _near(self.rng, color, 90)
        return _texture(self.rng, self.shape, color, second)

    def _blend(self, coverage: np.ndarray, paint: np.ndarray) -> None:
        self.picture += (paint - self.picture) * coverage[..., None]

    def _place(self) -> np.ndarray:
        return self.rng.uniform(0, self.shape[::-1])

    def _add_clutter(self) -> None:
        """Paint a line or a blurred blob, which belongs to no class."""
        rng, mask = self.rng, np.zeros(self.shape, np.float32)
        start = self._place().astype(int)
        if rng.random() < 0.6:
            end = self._place().astype(int)
            cv2.line(mask, start, end, 1.0, int(rng.integers(1, 7)))
            mask = cv2.GaussianBlur(mask, (3, 3), 0)
        else:
            axes, turn = rng.uniform(4, 24, 2).astype(int), rng.uniform(0, 360)
            cv2.ellipse(mask, start, axes, turn, 0, 360, 1.0, -1)
            mask = cv2.GaussianBlur(mask, (0, 0), 6)
        color = rng.uniform(0, 255, 3).astype(np.float32)
        self._blend(mask * np.float32(rng.uniform(0.4, 1.0)), color)

    def new_owner(self, label: int) -> int:
        self.labels.append(label)
        self.painted.append(0)
        return len(self.labels) - 1

    def try_paint(self, owner, center, radius, squeeze, fill=None) -> bool:
        """Paint a randomly rotated shape unless too much of it or of another
        object would be invisible; return whether it was painted.
        """
        label, angle = self.labels[owner], self.rng.uniform(0, 2 * np.pi)
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, sin], [-sin, cos]])
        points = [
            ((part * [1, squeeze]) @ turn * radius + center) * 16
            for part in OUTLINES[label]
        ]
        # Fixed point with 4 fractional bits.
        points = [np.round(part).astype(np.int32) for part in points]
        coverage = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(coverage, points, 255, cv2.LINE_AA, 4)
        coverage = coverage.astype(np.float32) / 255
        mask = coverage >= 0.5
        pixels, whole = int(mask.sum()), _area(label) * radius**2 * squeeze
        if pixels < max(MIN_PIXELS, MIN_VISIBLE * whole):
            return False
        count = len(self.labels)
        visible = np.bincount(self.owner.ravel(), minlength=count)
        lost = np.bincount(self.owner[mask], minlength=count)
        least = np.maximum(MIN_VISIBLE * np.array(self.painted), MIN_PIXELS)
        hidden = (lost > 0) & (visible - lost < least)
        # The background and the shape's own crowd may be hidden.
        hidden[[0, owner]] = False
        if hidden.any():
            return False
        fill = fill or self._pick_fill(owner, mask)
        self._blend(coverage, _texture(self.rng, self.shape, *fill))
        self.owner[mask] = owner
        self.painted[owner] += pixels
        return True

    def _pick_fill(self, owner: int, mask: np.ndarray) -> tuple:
        """Choose two colours, the first in contrast to the pixels behind."""
        rng, own = self.rng, COLORS[self.labels[owner]]
        usual = rng.random() < self.usual
        behind = self.picture[mask].mean(axis=0)
        best, contrast = None, -1.0
        for _ in range(12):
            color = _near(rng, own, 45) if usual else rng.uniform(0, 255, 3)
            distance = float(np.linalg.norm(color - behind))
            if distance > contrast:
                best, contrast = color, distance
            if contrast >= MIN_CONTRAST:
                break
        return best, np.clip(best + rng.uniform(-60, 60), 0, 255)

    def add_object(self) -> None:
        rng = self.rng
        label = int(rng.integers(len(CLASSES)))
        owner, squeeze = self.new_owner(label), rng.uniform(0.75, 1.0)
        for _ in range(10):
            side = rng.uniform(*SIZES[rng.choice(3, p=SIZE_RATES)])
            radius = side / math.sqrt(_area(label) * squeeze)
            radius = min(radius, 0.55 * min(self.shape))
            if self.try_paint(owner, self._place(), radius, squeeze):
                return

    def add_crowd(self) -> None:
        """Add many small shapes of one class and colour, close together."""
        rng = self.rng
        owner = self.new_owner(int(rng.integers(len(CLASSES))))
        self.crowds.add(owner)
        size = np.array(self.shape[::-1], float)
        reach = np.minimum(rng.uniform((24, 18), (44, 30)), size / 2)
        center = rng.uniform(reach, size - reach)
        fill = self._pick_fill(owner, np.ones(self.shape, bool))
        for _ in range(rng.integers(10, 25)):
            place = center + rng.uniform(-reach, reach)
            self.try_paint(owner, place, rng.uniform(6, 9), 1.0, fill)

    def finish(self) -> tuple[np.ndarray, list[dict]]:
        grain = self.rng.random((*self.shape, 3), np.float32) - 0.5
        image = np.clip(self.picture + 12 * grain + 0.5, 0, 255)
        objects = []
        for owner in np.unique(self.owner[self.owner > 0]):
            mask = (self.owner == owner).astype(np.uint8)
            row = dict(category_id=self.labels[owner] + 1)
            row['bbox'], row['area'] = cv2.boundingRect(mask), int(mask.sum())
            row['iscrowd'] = int(owner in self.crowds)
            objects.append(row)
        return image.astype(np.uint8), objects


@dataclass(frozen=True)
class DetectionSet:
    """A set in COCO format: ``<split>/*.png`` and ``annotations/*.json``."""

    train: int = 400
    val: int = 100
    size: tuple[int, int] = (256, 192)
    seed: int = 0
    empty_rate: float = EMPTY_RATE

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of each file."""
        sides = dict(zip(('width', 'height'), self.size, strict=True))
        categories = [
            dict(id=number, name=name, supercategory='shape')
            for number, name in enumerate(CLASSES, 1)
        ]
        for split, first in ('train', 1), ('val', self.train + 1):
            images, rows = [], []
            for index in range(getattr(self, split)):
                key = self.seed, int(split == 'val'), index
                image, objects = draw_picture(key, *self.size, self.empty_rate)
                name, number = f'{index:06d}.png', first + index
                yield f'{split}/{name}', _png(image)
                images.append(dict(id=number, file_name=name, **sides))
                for each in objects:
                    rows.append(
                        dict(id=len(rows) + 1, image_id=number, **each)
                    )
            info = dict(description='synthetic shapes')
            content = dict(info=info, images=images, annotations=rows)
            content = json.dumps(content | dict(categories=categories))
            yield f'annotations/instances_{split}.json', content.encode()


@dataclass(frozen=True)
class ClassificationSet:
    """A set in ImageNet's layout: ``<split>/<class>/*.png``."""

    train: int = 800
    val: int = 80
    size: int = 64
    seed: int = 0

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of each file."""
        for number, split in (2, 'train'), (3, 'val'):
            for index in range(getattr(self, split) * len(CLASSES)):
                label = index % len(CLASSES)
                image = draw_crop((self.seed, number, index), label, self.size)
                yield f'{split}/{CLASSES[label]}/{index:06d}.png', _png(image)


def _png(image: np.ndarray) -> bytes:
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return cv2.imencode('.png', image, options)[1].tobytes()


def write_set(
    out_dir: str | os.PathLike,
    content: DetectionSet | ClassificationSet,
    progress: bool = False,
) -> bool:
    """Write a set into a new or empty folder, completely or not at all.

    Existing files are never deleted.

    Returns:
        Whether the set was written; False if it is there already.
    """
    given = dict(vars(content), size=int(np.min(content.size)))
    for name, least in dict(train=1, val=1, seed=0, size=64).items():
        if given[name] < least:
            raise DatasetError(
                f'expected {name} to be at least {least}, got {given[name]}'
            )
    folder = Path(os.path.abspath(out_dir))
    manifest = json.dumps({'options': {'synthetic': VERSION, **vars(content)}})
    existing = folder / 'manifest.json'
    if existing.is_file() and existing.read_text('latin-1') == manifest:
        return False
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(
            f'{folder} holds something else or another version of this set; '
            'choose a new folder, or remove this one first'
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f'.{folder.name}.', dir=folder.parent
    ) as temporary:
        complete = Path(temporary, folder.name)
        for name, data in tqdm(
            content.files(), 'drawing', unit='file', disable=not progress
        ):
            (complete / name).parent.mkdir(parents=True, exist_ok=True)
            (complete / name).write_bytes(data)
        (complete / existing.name).write_text(manifest)
        # This replaces an empty folder of the same name.
        complete.replace(folder)
    return True
