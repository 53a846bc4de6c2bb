"""Random shapes, textures and backgrounds, drawn with plain arithmetic.

The pictures have to come out the same to the last byte on every machine. So
random numbers are read from the bit generator, whose stream numpy guarantees
(its distributions may change), and pixels are computed elementwise in float32
with ``+ - * /``, ``sqrt`` and ``floor`` only: IEEE 754 fixes their results,
where ``sin`` or a matrix product differ between processors.

Legend: H rows, W columns, coordinates (x, y) in pixels with pixel centres at
whole numbers; colours are RGB in 0-255.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Color = tuple[float, float, float]


class RandomSource:
    """Uniform random numbers out of raw PCG64 bits.

    Args:
        key: Whole numbers >= 0; each sequence of them is its own stream.
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        fraction = (int(self._bits.random_raw()) >> 11) * 2.0**-53
        return low + (high - low) * fraction

    def below(self, stop: int) -> int:
        return int(self.uniform() * stop)

    def chance(self, rate: float) -> bool:
        return self.uniform() < rate

    def pick(self, items: Sequence, weights: Sequence[float] | None = None):
        if weights is None:
            return items[self.below(len(items))]
        point = self.uniform(0.0, float(sum(weights)))
        for item, weight in zip(items, weights, strict=True):
            point -= weight
            if point < 0:
                return item
        return items[-1]

    def array(self, *shape: int) -> np.ndarray:
        """float32 in [0, 1) of the given shape."""
        raw = self._bits.random_raw(math.prod(shape)) >> np.uint64(40)
        return (raw.astype(np.float32) * np.float32(2.0**-24)).reshape(shape)

    def color(self) -> Color:
        return tuple(self.uniform(0, 255) for _ in range(3))


def _polygon_planes(x, y, sides: int, inner: float) -> np.ndarray:
    """Signed distances to the edges of a regular polygon of inradius."""
    turns = [(2 * k + 1) / (2 * sides) for k in range(sides)]
    return np.stack([x * c + y * s - inner for c, s in map(_cos_sin, turns)])


def _cos_sin(turn: float) -> tuple[float, float]:
    # The last bits of libm's results differ between systems.
    angle = 2 * math.pi * turn
    return round(math.cos(angle), 9), round(math.sin(angle), 9)


def _circle(x, y):
    return np.sqrt(x * x + y * y) - 1.0


def _square(x, y):
    return np.maximum(np.abs(x), np.abs(y)) - 0.8


def _triangle(x, y):
    return _polygon_planes(x, y, 3, 0.5).max(axis=0)


def _star(x, y):
    # A pentagram is what lies inside at least four of the five edges.
    return np.sort(_polygon_planes(x, y, 5, 0.309017), axis=0)[3]


def _ring(x, y):
    return np.abs(np.sqrt(x * x + y * y) - 0.74) - 0.26


def _cross(x, y):
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 1.0, np.minimum(x, y) - 0.3)


class Shape(NamedTuple):
    """Signed distance (< 0 inside) in units of the radius, and the area."""

    distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
    area: float


#: The classes, in the order of their labels.
SHAPES = {
    'circle': Shape(_circle, math.pi),
    'square': Shape(_square, 2.56),
    'triangle': Shape(_triangle, 1.299),
    'star': Shape(_star, 1.123),
    'ring': Shape(_ring, 2.418),
    'cross': Shape(_cross, 2.04),
}


class Placement(NamedTuple):
    """Where and how a shape is drawn; ``squeeze`` shortens one axis."""

    x: float
    y: float
    radius: float
    turn: float
    squeeze: float = 1.0


class Patch(NamedTuple):
    """A part of the picture: its window and the coverage (h, w) in 0-1."""

    window: tuple[slice, slice]
    coverage: np.ndarray


def rasterize(
    shape: str, place: Placement, height: int, width: int
) -> Patch | None:
    """Anti-aliased coverage of a shape, None when it is off the picture."""
    reach = place.radius + 2
    x0, x1 = max(0, int(place.x - reach)), min(width, int(place.x + reach) + 1)
    y0, y1 = (
        max(0, int(place.y - reach)),
        min(height, int(place.y + reach) + 1),
    )
    if x0 >= x1 or y0 >= y1:
        return None
    x = np.arange(x0, x1, dtype=np.float32)[None, :] - np.float32(place.x)
    y = np.arange(y0, y1, dtype=np.float32)[:, None] - np.float32(place.y)
    cos, sin = _cos_sin(place.turn)
    u = (x * cos + y * sin) * (1.0 / place.radius)
    v = (y * cos - x * sin) * (1.0 / (place.radius * place.squeeze))
    pixels = SHAPES[shape].distance(u, v) * (place.radius * place.squeeze)
    return Patch(
        (slice(y0, y1), slice(x0, x1)), np.clip(0.5 - pixels, 0.0, 1.0)
    )


def _stripes(rng: RandomSource, height: int, width: int) -> np.ndarray:
    cos, sin = _cos_sin(rng.uniform())
    period = rng.uniform(5, 24)
    x = np.arange(width, dtype=np.float32)[None, :] * (cos / period)
    y = np.arange(height, dtype=np.float32)[:, None] * (sin / period)
    phase = x + y
    return np.abs(2.0 * (phase - np.floor(phase)) - 1.0)


def _gradient(rng: RandomSource, height: int, width: int) -> np.ndarray:
    return _smooth(rng, height, width, 2, 2)


def _clouds(rng: RandomSource, height: int, width: int) -> np.ndarray:
    cells = 3 + rng.below(8)
    return _smooth(rng, height, width, cells, cells)


def _grain(rng: RandomSource, height: int, width: int) -> np.ndarray:
    return rng.array(height, width)


def _smooth(rng, height: int, width: int, rows: int, columns: int):
    """A coarse random grid of (rows, columns), bilinearly enlarged."""
    grid = rng.array(rows, columns)
    for axis, size in enumerate((height, width)):
        cells = grid.shape[axis] - 1
        at = np.arange(size, dtype=np.float32) * (cells / size)
        low = np.floor(at).astype(np.int64)
        weight = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        first = grid.take(low, axis=axis)
        grid = first + (grid.take(low + 1, axis=axis) - first) * weight
    return grid


TEXTURES = {
    'gradient': _gradient,
    'stripes': _stripes,
    'clouds': _clouds,
    'grain': _grain,
}


def texture(
    rng: RandomSource, height: int, width: int, first: Color, second: Color
) -> np.ndarray:
    """A random pattern between two colours, float32 (H, W, 3)."""
    mix = TEXTURES[rng.pick(tuple(TEXTURES))](rng, height, width)[..., None]
    low = np.array(first, np.float32)
    return low + (np.array(second, np.float32) - low) * mix


def blend(
    picture: np.ndarray, patch: Patch, paint: np.ndarray, opacity: float = 1.0
) -> None:
    """Lay paint (h, w, 3) or (3,) over the picture, in place."""
    view = picture[patch.window]
    view += (paint - view) * (patch.coverage * np.float32(opacity))[..., None]


def line(
    start: tuple[float, float],
    end: tuple[float, float],
    thickness: float,
    height: int,
    width: int,
) -> Patch:
    """Anti-aliased coverage of a line with round ends."""
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(start[0])
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(start[1])
    dx, dy = end[0] - start[0], end[1] - start[1]
    length2 = max(dx * dx + dy * dy, 1e-6)
    along = np.clip((x * dx + y * dy) * (1.0 / length2), 0.0, 1.0)
    ox, oy = x - along * dx, y - along * dy
    pixels = np.sqrt(ox * ox + oy * oy) - thickness / 2
    everywhere = (slice(0, height), slice(0, width))
    return Patch(everywhere, np.clip(0.5 - pixels, 0.0, 1.0))


def blob(
    place: Placement, height: int, width: int, softness: float = 1.0
) -> Patch:
    """Coverage of an ellipse that fades out without an edge."""
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(place.x)
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(place.y)
    cos, sin = _cos_sin(place.turn)
    u = (x * cos + y * sin) * (1.0 / place.radius)
    v = (y * cos - x * sin) * (1.0 / (place.radius * place.squeeze))
    fade = 1.0 / (1.0 + (u * u + v * v) * (1.0 / softness))
    everywhere = (slice(0, height), slice(0, width))
    return Patch(everywhere, fade * fade)


def background(
    rng: RandomSource, height: int, width: int, distractors: int
) -> np.ndarray:
    """A cluttered picture without any object, float32 (H, W, 3)."""
    base = rng.color()
    picture = texture(rng, height, width, base, near(rng, base, 90))
    for _ in range(1 + rng.below(2)):
        base = rng.color()
        layer = texture(rng, height, width, base, near(rng, base, 90))
        mask = _smooth(rng, height, width, 4, 5)[..., None]
        picture += (layer - picture) * (mask * rng.uniform(0.3, 1.0))
    for _ in range(rng.below(distractors + 1)):
        _distract(rng, picture)
    return picture


def near(rng: RandomSource, color: Color, spread: float) -> Color:
    """A colour at most ``spread`` from another in each of RGB."""
    return tuple(
        min(255.0, max(0.0, c + rng.uniform(-spread, spread))) for c in color
    )


def _distract(rng: RandomSource, picture: np.ndarray) -> None:
    """Draw a line or a blob, which are no class."""
    height, width = picture.shape[:2]
    here = (rng.uniform(0, width), rng.uniform(0, height))
    if rng.chance(0.6):
        there = (rng.uniform(0, width), rng.uniform(0, height))
        patch = line(here, there, rng.uniform(1, 6), height, width)
    else:
        radius = rng.uniform(4, 24)
        place = Placement(*here, radius, rng.uniform(), rng.uniform(0.3, 1))
        patch = blob(place, height, width)
    paint = np.array(rng.color(), np.float32)
    blend(picture, patch, paint, rng.uniform(0.4, 1.0))
