"""What the slow references of several kernels share."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def sample() -> Callable:
    """Bilinear value (C,) of a map (C, H, W) at a point, as in RoIAlign."""

    def at(plane: Tensor, y: float, x: float) -> Tensor:
        height, width = plane.shape[1:]
        value = plane.new_zeros(len(plane))
        if not (-1 <= y <= height and -1 <= x <= width):
            return value
        y = min(max(y, 0), height - 1)
        x = min(max(x, 0), width - 1)
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if row < height and column < width:
                    weight = (1 - abs(y - row)) * (1 - abs(x - column))
                    value = value + weight * plane[:, row, column]
        return value

    return at


@pytest.fixture
def rois() -> Tensor:
    """RoIs of two images 40 pixels wide: inside, tiny, over the border,
    without area, outside. No sample falls on a pixel's centre."""
    return torch.tensor(
        [
            [0, 3.3, 4.1, 25.7, 17.9],
            [1, 8.2, 2.6, 9.1, 3.3],
            [1, -9.7, -6.3, 51.3, 45.9],
            [0, 11.3, 9.7, 11.3, 9.7],
            [0, 61.1, 70.3, 82.9, 95.3],
        ],
        dtype=torch.float64,
    )
