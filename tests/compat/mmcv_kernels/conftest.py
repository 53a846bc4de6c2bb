"""What the slow references of several kernels share."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def corner_weights() -> Callable:
    """Bilinear interpolation of RoIAlign and its kin, point by point."""

    def weights(
        y: float, x: float, height: int, width: int
    ) -> list[tuple[int, int, float]]:
        """(row, column, weight) of the pixels around (y, x)."""
        if not (-1 <= y <= height and -1 <= x <= width):
            return []
        y = min(max(y, 0), height - 1)
        x = min(max(x, 0), width - 1)
        top, left = math.floor(y), math.floor(x)
        return [
            (row, column, (1 - abs(y - row)) * (1 - abs(x - column)))
            for row in (top, top + 1)
            for column in (left, left + 1)
            if row < height and column < width
        ]

    return weights


@pytest.fixture
def sample(corner_weights: Callable) -> Callable:
    """Value (C,) of a map (C, H, W) at a point, differentiable by it."""

    def at(plane: Tensor, y: float, x: float) -> Tensor:
        value = plane.new_zeros(len(plane))
        for row, column, weight in corner_weights(y, x, *plane.shape[1:]):
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
