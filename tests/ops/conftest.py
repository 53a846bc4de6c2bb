"""All kinds of RoIs that occur in a detector, and options of both ops."""

import pytest
import torch


@pytest.fixture
def rois() -> torch.Tensor:
    """Non-empty RoIs on 2 images of 9 x 11 cells, in pixels."""
    cells = [
        [0, 1.3, 2.1, 6.8, 7.9],
        [1, 0, 0, 11, 9],
        [1, 4.2, 3.1, 4.9, 3.4],
        [0, 2, 2, 4.5, 8],
        # Across each border, and completely outside, near and far.
        [0, -3.2, -2.4, 3.1, 2.7],
        [1, 7.7, 5.2, 14.6, 12.9],
        [0, -0.6, 2, -0.1, 5],
        [1, 20, 20, 30, 30],
        [0, -30, -30, -20, -20],
        # Much larger than the map.
        [1, -9, -8, 19, 16],
        # At halves, where the rounding rule matters.
        [0, 2.5, 1.5, 6.5, 5.5],
    ]
    rois = torch.tensor(cells, dtype=torch.float64)
    rois[:, 1:] *= 16
    return rois


@pytest.fixture
def broken() -> torch.Tensor:
    """Invalid RoIs, which give zeros."""
    nan, inf = float('nan'), float('inf')
    return torch.tensor(
        [
            [0, nan, 10, 50, 60],
            [1, 10, nan, nan, nan],
            [nan, nan, nan, nan, nan],
            [0, 10, 10, inf, 60],
            [0, -inf, -inf, inf, inf],
            [1, 0, 0, 0, 0],
            [1, 20, 20, 20, 60],
            [0, 50, 60, 10, 20],
            [0, 1e30, 1e30, 3e38, 3e38],
            [1, -3e38, -3e38, -1e30, -1e30],
        ],
        dtype=torch.float64,
    )


@pytest.fixture
def ps_map() -> torch.Tensor:
    """A ``(2, 2 * 3 * 2, 9, 11)`` map of 2 output channels, 3 x 2 bins."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 12, 9, 11, dtype=torch.float64, generator=generator)
