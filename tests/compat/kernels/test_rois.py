"""RoIAlign and deformable RoI pooling against loops over bins and samples."""

import math

import pytest
import torch
from mmcv.ops import (
    roi_align,
)
from mmcv.ops.deform_roi_pool import deform_roi_pool
from torch import Tensor

SCALE, BINS, GAMMA = 0.5, (3, 2), 0.1


def sample(plane: Tensor, y: float, x: float) -> Tensor:
    """Bilinear value (C,) of a map (C, H, W) at a point, as in RoIAlign."""
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


@pytest.fixture
def features() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 18, 20, generator=generator, dtype=torch.float64)


@pytest.fixture
def offset(rois) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = len(rois), 2, *BINS
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def pool_by_loop(features, rois, ratio, aligned=True, offset=None):
    """Both kinds of pooling; only deformable pooling has an offset."""
    pooled = features.new_zeros(len(rois), features.size(1), *BINS)
    for k, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c * SCALE - 0.5 * aligned for c in corners)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1), max(height, 1)
        bin_h, bin_w = height / BINS[0], width / BINS[1]
        rows = ratio or math.ceil(bin_h)
        columns = ratio or math.ceil(bin_w)
        for p in range(BINS[0]):
            for q in range(BINS[1]):
                top, left = y1 + p * bin_h, x1 + q * bin_w
                if offset is not None:
                    left += GAMMA * width * float(offset[k, 0, p, q])
                    top += GAMMA * height * float(offset[k, 1, p, q])
                samples = [
                    sample(
                        features[int(image)],
                        top + (i + 0.5) / rows * bin_h,
                        left + (j + 0.5) / columns * bin_w,
                    )
                    for i in range(rows)
                    for j in range(columns)
                ]
                if samples:
                    pooled[k, :, p, q] = torch.stack(samples).mean(0)
    return pooled


def assert_same(features: Tensor, pool, pool_slowly) -> None:
    leaves = [features.clone().requires_grad_() for _ in range(2)]
    got, expected = pool(leaves[0]), pool_slowly(leaves[1])
    torch.testing.assert_close(got, expected)
    weights = torch.randn_like(got)
    grads = [
        torch.autograd.grad(pooled, leaf, weights)[0]
        for pooled, leaf in zip((got, expected), leaves, strict=True)
    ]
    assert grads[0].abs().sum() > 0
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('aligned', [False, True])
def test_roi_align_equals_the_loop(features, rois, ratio, aligned):
    assert_same(
        features,
        lambda x: roi_align(x, rois, BINS, SCALE, ratio, 'avg', aligned),
        lambda x: pool_by_loop(x, rois, ratio, aligned),
    )


@pytest.mark.parametrize('ratio', [0, 2])
def test_deform_roi_pool_equals_the_loop(features, rois, offset, ratio):
    assert_same(
        features,
        lambda x: deform_roi_pool(x, rois, offset, BINS, SCALE, ratio, GAMMA),
        lambda x: pool_by_loop(x, rois, ratio, offset=offset),
    )


def test_offsets_have_the_gradient_of_finite_differences(
    features, rois, offset
):
    # Without the RoIs whose samples all lie flat: outside, or no area.
    offset = offset[:3].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda moves: deform_roi_pool(
            features, rois[:3], moves, BINS, SCALE, 2, GAMMA
        ),
        offset,
        eps=1e-7,
        atol=1e-4,
    )
