"""RoIAlign and RoIPool against loops over bins and samples."""

import math

import pytest
import torch
from mmcv.ops import RoIAlign, RoIPool, roi_align, roi_pool
from torch import Tensor

SCALE, BINS = 0.5, (3, 2)


@pytest.fixture
def features() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 18, 20, generator=generator, dtype=torch.float64)


@pytest.fixture
def roi_align_by_loop(sample):
    def run(features, rois, ratio, mode, aligned):
        pooled = features.new_zeros(len(rois), features.size(1), *BINS)
        for k, (image, *corners) in enumerate(rois.tolist()):
            x1, y1, x2, y2 = (c * SCALE - 0.5 * aligned for c in corners)
            width, height = x2 - x1, y2 - y1
            if not aligned:
                width, height = max(width, 1), max(height, 1)
            bin_h, bin_w = height / BINS[0], width / BINS[1]
            # Max pooling of no sample at all is undefined: take one.
            least = mode == 'max'
            rows = ratio or max(math.ceil(bin_h), least)
            columns = ratio or max(math.ceil(bin_w), least)
            for p in range(BINS[0]):
                for q in range(BINS[1]):
                    samples = [
                        sample(
                            features[int(image)],
                            y1 + (p + (i + 0.5) / rows) * bin_h,
                            x1 + (q + (j + 0.5) / columns) * bin_w,
                        )
                        for i in range(rows)
                        for j in range(columns)
                    ]
                    if samples:
                        stack = torch.stack(samples)
                        pooled[k, :, p, q] = (
                            stack.amax(0) if mode == 'max' else stack.mean(0)
                        )
        return pooled

    return run


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('aligned', [False, True])
def test_roi_align_equals_the_loop(
    features, rois, roi_align_by_loop, ratio, mode, aligned
):
    leaves = [features.clone().requires_grad_() for _ in range(2)]
    got = roi_align(leaves[0], rois, BINS, SCALE, ratio, mode, aligned)
    expected = roi_align_by_loop(leaves[1], rois, ratio, mode, aligned)
    torch.testing.assert_close(got, expected)
    weights = torch.randn_like(got)
    grads = [
        torch.autograd.grad(pooled, leaf, weights)[0]
        for pooled, leaf in zip((got, expected), leaves, strict=True)
    ]
    assert grads[0].abs().sum() > 0
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align_in_low_precision_is_the_float_result_rounded(
    features, rois, mode, dtype
):
    leaf = features.to(dtype).requires_grad_()
    layer = RoIAlign(BINS, SCALE, 0, mode)
    pooled = layer(leaf, rois.to(dtype))
    exact = layer(leaf.detach().float(), rois.to(dtype).float())
    assert torch.equal(pooled, exact.to(dtype))
    pooled.sum().backward()
    assert leaf.grad.dtype == dtype
    assert leaf.grad.isfinite().all()


def test_pooling_no_rois_gives_none_and_a_zero_gradient(features):
    for layer in (
        RoIAlign(BINS, SCALE),
        RoIAlign(BINS, SCALE, pool_mode='max'),
        RoIPool(BINS, SCALE),
    ):
        leaf = features.clone().requires_grad_()
        pooled = layer(leaf, features.new_zeros(0, 5))
        assert pooled.shape == (0, 3, *BINS)
        pooled.sum().backward()
        assert not leaf.grad.any()


def roi_pool_by_loop(features: Tensor, rois: Tensor) -> Tensor:
    """mmcv's bins: from x1 to x2 + 1, borders rounded outwards."""
    limits = features.shape[-2:]
    pooled = features.new_zeros(len(rois), features.size(1), *BINS)
    for k, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        low = y1 * SCALE, x1 * SCALE
        size = (y2 + 1) * SCALE - low[0], (x2 + 1) * SCALE - low[1]
        if min(size) <= 0:
            continue
        for p in range(BINS[0]):
            for q in range(BINS[1]):
                (top, bottom), (left, right) = (
                    tuple(
                        min(max(edge, 0), limit)
                        for edge in (
                            math.floor(i * extent / count + start),
                            math.ceil((i + 1) * extent / count + start),
                        )
                    )
                    for i, extent, count, start, limit in zip(
                        (p, q), size, BINS, low, limits, strict=True
                    )
                )
                if top < bottom and left < right:
                    pixels = features[int(image), :, top:bottom, left:right]
                    pooled[k, :, p, q] = pixels.flatten(1).amax(1)
    return pooled


def test_roi_pool_equals_the_loop(features, rois):
    inverted = torch.tensor([[1, 20.2, 8.4, 12.6, 14.8]]).to(rois)
    rois = torch.cat((rois, inverted))
    leaves = [features.clone().requires_grad_() for _ in range(2)]
    got = roi_pool(leaves[0], rois, BINS, SCALE)
    expected = roi_pool_by_loop(leaves[1], rois)
    assert torch.equal(got, expected)
    assert not got[-2:].any()
    weights = torch.randn_like(got)
    grads = [
        torch.autograd.grad(pooled, leaf, weights)[0]
        for pooled, leaf in zip((got, expected), leaves, strict=True)
    ]
    assert grads[0].abs().sum() > 0
    torch.testing.assert_close(*grads)


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize(
    'layer',
    [
        RoIAlign(BINS, SCALE),
        RoIAlign(BINS, SCALE, pool_mode='max'),
        RoIPool(BINS, SCALE),
    ],
    ids=['align-avg', 'align-max', 'pool'],
)
def test_pooling_on_the_gpu_equals_the_cpu(features, rois, layer, dtype):
    results = []
    for device in ('cpu', 'cuda'):
        leaf = features.to(device, dtype).requires_grad_()
        pooled = layer(leaf, rois.to(device, dtype))
        pooled.sum().backward()
        results.append((pooled.detach().cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(*results, rtol=1e-2, atol=1e-2)
