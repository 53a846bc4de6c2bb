"""Deformable RoI pooling against a loop over bins and samples."""

import math

import pytest
import torch
from mmcv.ops import DeformRoIPoolPack, ModulatedDeformRoIPoolPack
from mmcv.ops.deform_roi_pool import deform_roi_pool

SCALE, BINS, GAMMA = 0.5, (3, 2), 0.1


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 2, 18, 20, generator=generator, dtype=torch.float64)


@pytest.fixture
def offset(rois):
    generator = torch.Generator().manual_seed(1)
    shape = len(rois), 2, *BINS
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def pool_by_loop(sample):
    def run(features, rois, offset, ratio):
        pooled = features.new_zeros(len(rois), features.size(1), *BINS)
        for k, (image, *corners) in enumerate(rois.tolist()):
            x1, y1, x2, y2 = (c * SCALE - 0.5 for c in corners)
            bin_h, bin_w = (y2 - y1) / BINS[0], (x2 - x1) / BINS[1]
            rows = ratio or math.ceil(bin_h)
            columns = ratio or math.ceil(bin_w)
            for p in range(BINS[0]):
                for q in range(BINS[1]):
                    move_x, move_y = offset[k, :, p, q].tolist()
                    top = y1 + p * bin_h + GAMMA * (y2 - y1) * move_y
                    left = x1 + q * bin_w + GAMMA * (x2 - x1) * move_x
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

    return run


@pytest.mark.parametrize('ratio', [0, 2])
def test_deform_roi_pool_equals_the_loop(
    features, rois, offset, pool_by_loop, ratio
):
    leaves = [features.clone().requires_grad_() for _ in range(2)]
    got = deform_roi_pool(leaves[0], rois, offset, BINS, SCALE, ratio, GAMMA)
    expected = pool_by_loop(leaves[1], rois, offset, ratio)
    torch.testing.assert_close(got, expected)
    weights = torch.randn_like(got)
    grads = [
        torch.autograd.grad(pooled, leaf, weights)[0]
        for pooled, leaf in zip((got, expected), leaves, strict=True)
    ]
    torch.testing.assert_close(*grads)


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


def test_no_offset_equals_zero_offset(features, rois, offset):
    leaf = features.requires_grad_()
    plain = deform_roi_pool(leaf, rois, None, BINS, SCALE, 0, GAMMA)
    zeros = torch.zeros_like(offset)
    still = deform_roi_pool(leaf, rois, zeros, BINS, SCALE, 0, GAMMA)
    torch.testing.assert_close(plain, still)
    plain.sum().backward()
    assert leaf.grad.abs().sum() > 0


@pytest.mark.parametrize(
    'layer_type', [DeformRoIPoolPack, ModulatedDeformRoIPoolPack]
)
def test_mmcv_layers_train(features, rois, layer_type):
    layer = layer_type(BINS, output_channels=2, spatial_scale=SCALE)
    leaf = features.float().requires_grad_()
    layer(leaf, rois.float()).square().sum().backward()
    for grad in (leaf.grad, *(p.grad for p in layer.parameters())):
        assert grad.isfinite().all()
    assert layer.offset_fc[-1].weight.grad.abs().sum() > 0
