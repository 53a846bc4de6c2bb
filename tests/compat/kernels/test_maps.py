"""Ops that read feature maps, against torchvision's or loops over samples."""

import math
from itertools import product

import pytest
import torch
from mmcv.ops import (
    CARAFEPack,
    MaskedConv2d,
    carafe,
    deform_conv2d,
    modulated_deform_conv2d,
    roi_align,
)
from mmcv.ops.deform_roi_pool import deform_roi_pool
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch import Tensor
from torch.nn.functional import conv2d, pad
from torchvision import ops


@pytest.fixture
def random():
    """Make random float64 tensors that require gradients."""
    generator = torch.Generator().manual_seed(0)

    def make(*shape: int, kind=torch.randn) -> Tensor:
        values = kind(*shape, generator=generator, dtype=torch.double)
        return values.requires_grad_()

    return make


def pixel(plane: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bilinear value (C,) of a map (C, H, W), zeros outside."""
    value = plane.new_zeros(len(plane))
    top, left = (int(place.detach().floor()) for place in (y, x))
    for row, column in product((top, top + 1), (left, left + 1)):
        if 0 <= row < plane.shape[1] and 0 <= column < plane.shape[2]:
            weight = (1 - (y - row).abs()) * (1 - (x - column).abs())
            value = value + weight * plane[:, row, column]
    return value


def assert_same(got: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
    """Check that values and gradients of the leaves are equal."""
    torch.testing.assert_close(got, expected)
    weights = torch.randn_like(got)
    gradients, slow = (
        torch.autograd.grad(output, leaves, weights, retain_graph=True)
        for output in (got, expected)
    )
    for one, other in zip(gradients, slow, strict=True):
        assert one.any()
        torch.testing.assert_close(one, other)


BINS, ROI_SCALE, GAMMA = (3, 2), 0.5, 0.1
# In two images 40 pixels wide: inside, tiny, across the border, without area,
# outside. No sample falls on the centre of a pixel.
ROIS = torch.tensor(
    [
        [0, 3.3, 4.1, 25.7, 17.9],
        [1, 8.2, 2.6, 9.1, 3.3],
        [1, -9.7, -6.3, 51.3, 45.9],
        [0, 11.3, 9.7, 11.3, 9.7],
        [0, 61.1, 70.3, 82.9, 95.3],
    ],
    dtype=torch.double,
)


def pool_by_loop(features: Tensor, offset: Tensor, ratio: int) -> Tensor:
    """Mean of the samples of each bin, shifted by its offset."""
    size = torch.tensor(features.shape[2:])
    pooled = []
    for k, p, q in product(range(len(ROIS)), *map(range, BINS)):
        image, *corners = ROIS[k].tolist()
        x1, y1, x2, y2 = (c * ROI_SCALE - 0.5 for c in corners)
        width, height = x2 - x1, y2 - y1
        bin_h, bin_w = height / BINS[0], width / BINS[1]
        rows, columns = ratio or math.ceil(bin_h), ratio or math.ceil(bin_w)
        dx, dy = offset[k, :, p, q]
        value = features.new_zeros(features.shape[1])
        for i, j in product(range(rows), range(columns)):
            y = y1 + (p + (i + 0.5) / rows) * bin_h + GAMMA * height * dy
            x = x1 + (q + (j + 0.5) / columns) * bin_w + GAMMA * width * dx
            place = torch.stack((y, x))
            if ((place >= -1) & (place <= size)).all():
                place = place.clamp(torch.zeros(2), size - 1)
                value = value + pixel(features[int(image)], *place)
        pooled.append(value / max(rows * columns, 1))
    return torch.stack(pooled, 1).unflatten(1, (-1, *BINS)).transpose(0, 1)


@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('aligned', [False, True])
def test_roi_align_equals_torchvisions(random, ratio, aligned):
    features = random(2, 3, 18, 20)
    got = roi_align(features, ROIS, BINS, ROI_SCALE, ratio, 'avg', aligned)
    expected = ops.roi_align(features, ROIS, BINS, ROI_SCALE, ratio, aligned)
    assert_same(got, expected, [features])


@pytest.mark.parametrize('ratio', [0, 2])
def test_deform_roi_pool_equals_the_loop(random, ratio):
    features, offset = random(2, 3, 18, 20), random(len(ROIS), 2, *BINS)
    got = deform_roi_pool(
        features, ROIS, offset, BINS, ROI_SCALE, ratio, GAMMA
    )
    assert_same(got, pool_by_loop(features, offset, ratio), [features, offset])


def test_deformable_attention_equals_the_loop(random):
    sizes, starts = torch.tensor([[4, 5], [2, 3]]), torch.tensor([0, 20])
    # 2 images, 26 keys, 2 heads, 3 channels; 4 queries, 2 levels, 2 points.
    values, weights = random(2, 26, 2, 3), random(2, 4, 2, 2, 2)
    places = (random(2, 4, 2, 2, 2, 2, kind=torch.rand) * 1.4 - 0.2).detach()
    leaves = [values, places.requires_grad_(), weights]
    # mmcv itself calls this for CUDA tensors only.
    got = MultiScaleDeformableAttnFunction.apply(
        values, sizes, starts, places, weights, 64
    )
    expected = torch.zeros(2, 4, 2, 3, dtype=torch.double)
    for at in product(*map(range, weights.shape)):
        image, query, head, level, _ = at
        height, width = sizes[level].tolist()
        keys = values[image, int(starts[level]) :, head][: height * width]
        x, y = places[at]
        sampled = pixel(
            keys.T.unflatten(1, (height, width)),
            y * height - 0.5,
            x * width - 0.5,
        )
        expected[image, query, head] += weights[at] * sampled
    assert_same(got, expected.flatten(2), leaves)


def test_carafe_equals_the_loop(random):
    kernel, groups, scale = 3, 2, 2
    features, masks = random(2, 4, 3, 5), random(2, groups * 9, 6, 10)
    expected = torch.zeros(2, 4, 6, 10, dtype=torch.double)
    padded = pad(features, (1, 1, 1, 1))
    for channel, y, x in product(*map(range, expected.shape[1:])):
        patch = padded[:, channel, y // scale :, x // scale :]
        group = masks.unflatten(1, (groups, 3, 3))[:, channel // 2]
        weighed = patch[:, :kernel, :kernel] * group[..., y, x]
        expected[:, channel, y, x] = weighed.sum((1, 2))
    got = carafe(features, masks, kernel, groups, scale)
    assert_same(got, expected, [features, masks])


def test_carafe_upsampler_trains_in_half_precision():
    layer = CARAFEPack(4, 2, encoder_dilation=1, compressed_channels=4)
    plane = torch.randn(1, 4, 6, 6)
    exact = layer(plane)
    with torch.autocast('cpu', torch.bfloat16):
        output = layer(plane)
    torch.testing.assert_close(output.float(), exact, rtol=0, atol=0.1)
    output.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


# Stride, padding, dilation, groups, deformable groups.
PLAIN = ((1, 1), (1, 1), (1, 1), 1, 1)
SETTINGS = [
    PLAIN,
    ((2, 1), (1, 2), (1, 2), 2, 1),
    ((1, 1), (0, 0), (1, 1), 1, 2),
]


def convolve(settings: tuple, tensors: dict[str, Tensor]) -> Tensor:
    if 'mask' in tensors:
        return modulated_deform_conv2d(*tensors.values(), *settings)
    return deform_conv2d(*tensors.values(), *settings)


def convolve_by_torchvision(
    settings, input, offset, weight, mask=None, bias=None
) -> Tensor:
    # It finds the groups in the shapes.
    return ops.deform_conv2d(
        input, offset, weight, bias, *settings[:3], mask=mask
    )


@pytest.fixture(params=[False, True], ids=['plain', 'modulated'])
def tensors_for(request, random):
    """Make the tensors of a deformable convolution."""

    def make(settings: tuple) -> dict[str, Tensor]:
        *steps, groups, deform_groups = settings
        plane, weight = random(2, 4, 6, 7), random(6, 4 // groups, 3, 2)
        size = conv2d(plane, weight, None, *steps, groups).shape[2:]
        taps = 6 * deform_groups
        tensors = dict(input=plane, offset=random(2, 2 * taps, *size))
        if request.param:
            mask = random(2, taps, *size)
            return dict(tensors, mask=mask, weight=weight, bias=random(6))
        return dict(tensors, weight=weight)

    return make


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_deformable_convolutions_equal_torchvisions(tensors_for, settings):
    tensors = tensors_for(settings)
    expected = convolve_by_torchvision(settings, **tensors)
    assert_same(convolve(settings, tensors), expected, list(tensors.values()))


def test_an_offset_to_exactly_minus_one_gets_no_gradient(tensors_for):
    tensors = tensors_for(PLAIN)
    # Between two pixels, except for the first tap of the first outputs: it
    # is at -1, like border taps of a new layer with padding.
    offset = torch.rand_like(tensors['offset']) * 0.8 + 0.1
    offset[:, 0, 0, :] = offset[:, 1, :, 0] = 0
    tensors['offset'] = offset.requires_grad_()
    grad, theirs = (
        torch.autograd.grad(output.sum(), offset)[0]
        for output in (
            convolve(PLAIN, tensors),
            convolve_by_torchvision(PLAIN, **tensors),
        )
    )
    nothing = torch.zeros_like(offset, dtype=torch.bool)
    nothing[:, :2, 0, :] = nothing[:, :2, :, 0] = True
    assert not grad[nothing].any()
    assert theirs[nothing].any()
    torch.testing.assert_close(grad[~nothing], theirs[~nothing])


def test_the_first_values_of_offsets_larger_than_the_output_are_used(random):
    plane, weight = random(2, 4, 5, 6), random(3, 4, 3, 3)
    # Offsets are a slice of a map's channels, as in DyHead.
    both = random(2, 27, 7, 9)
    large = both[:, :18], both[:, 18:].sigmoid()
    heads = [
        one.flatten(1)[:, : one.shape[1] * 30].unflatten(1, (-1, 5, 6))
        for one in large
    ]
    got, expected = (
        modulated_deform_conv2d(plane, *each, weight, None, 1, 1)
        for each in (large, heads)
    )
    assert_same(got, expected, [plane, both])


def test_the_weight_gets_the_same_gradient_alone(random):
    leaves = random(2, 4, 5, 6), random(2, 18, 5, 6), random(3, 4, 3, 3)
    frozen = leaves[0].detach(), leaves[1].detach(), leaves[2]
    got, expected = (deform_conv2d(*each, 1, 1) for each in (frozen, leaves))
    assert_same(got, expected, [leaves[2]])


def test_nan_offsets_read_zeros():
    """torchvision's kernel reads arbitrary memory and crashes."""
    plane, weight = torch.rand(1, 2, 5, 5), torch.rand(3, 2, 3, 3)
    offset = torch.full((1, 18, 5, 5), torch.nan).requires_grad_()
    mask = torch.ones(1, 9, 5, 5)
    for output in (
        deform_conv2d(plane, offset, weight, 1, 1),
        modulated_deform_conv2d(plane, offset, mask, weight, None, 1, 1),
    ):
        assert not output.any()
        output.sum().backward()
        assert not offset.grad.any()


@pytest.mark.parametrize('kernel, padding', [(1, 0), (3, 1)])
def test_masked_conv_is_the_convolution_where_the_mask_is(kernel, padding):
    layer = MaskedConv2d(3, 5, kernel, padding=padding)
    plane = torch.randn(1, 3, 7, 9)
    mask = torch.rand(1, 7, 9) > 0.6
    with torch.no_grad():
        torch.testing.assert_close(layer(plane, mask), layer(plane) * mask)
