"""Deformable and masked convolutions against loops and plain ones."""

import pytest
import torch
from mmcv.ops import (
    MaskedConv2d,
    deform_conv2d,
    modulated_deform_conv2d,
)
from torch import Tensor
from torch.nn.functional import conv2d

# stride, padding, dilation, groups, deform_groups
SETTINGS = [
    (1, 1, 1, 1, 1),
    ((2, 1), (1, 2), (1, 2), 2, 1),
    (1, 0, 1, 1, 2),
]


def inputs(settings: tuple) -> dict[str, Tensor]:
    """Random tensors in float64 that fit ``settings``, all leaves."""
    stride, padding, dilation, groups, deform_groups = settings
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        values = torch.randn(*shape, generator=generator, dtype=torch.double)
        return values.requires_grad_()

    weight = random(6, 4 // groups, 3, 2)
    plane = random(2, 4, 6, 7)
    size = conv2d(plane, weight, None, stride, padding, dilation, groups)
    taps = deform_groups * 6
    return dict(
        input=plane,
        offset=random(2, 2 * taps, *size.shape[-2:]),
        mask=random(2, taps, *size.shape[-2:]),
        weight=weight,
        bias=random(6),
    )


def pixel(plane: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bilinear value (C,), zeros outside; differentiable by y, x."""
    height, width = plane.shape[1:]
    value = plane.new_zeros(len(plane))
    top, left = int(y.detach().floor()), int(x.detach().floor())
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                weight = (1 - (y - row).abs()) * (1 - (x - column).abs())
                value = value + weight * plane[:, row, column]
    return value


def convolve_by_loop(settings, input, offset, weight, mask=None, bias=None):
    (sy, sx), (py, px), (dy, dx) = (
        pair if isinstance(pair, tuple) else (pair, pair)
        for pair in settings[:3]
    )
    groups, deform_groups = settings[3:]
    taps = weight.size(2) * weight.size(3)
    moves = offset.unflatten(1, (deform_groups, taps, 2))
    columns = []
    for n in range(len(input)):
        parts = input[n].chunk(deform_groups)
        for oy in range(offset.size(2)):
            for ox in range(offset.size(3)):
                patch = []
                for g, part in enumerate(parts):
                    for tap in range(taps):
                        i, j = divmod(tap, weight.size(3))
                        move = moves[n, g, tap, :, oy, ox]
                        value = pixel(
                            part,
                            oy * sy - py + i * dy + move[0],
                            ox * sx - px + j * dx + move[1],
                        )
                        if mask is not None:
                            value = value * mask[n, g * taps + tap, oy, ox]
                        patch.append(value)
                stacked = torch.stack(patch).unflatten(
                    0, (deform_groups, taps)
                )
                columns.append(stacked.transpose(1, 2).flatten(0, 1))
    # (N * OH * OW, groups, C / groups, taps)
    column = torch.stack(columns).unflatten(1, (groups, -1))
    kernels = weight.unflatten(0, (groups, -1)).flatten(3)
    output = torch.einsum('pgct,goct->pgo', column, kernels).flatten(1)
    if bias is not None:
        output = output + bias
    shape = len(input), offset.size(2), offset.size(3), -1
    return output.view(shape).permute(0, 3, 1, 2)


def assert_same_gradients(outputs: list[Tensor], leaves: list[Tensor]):
    weights = torch.randn_like(outputs[0])
    got, expected = (
        torch.autograd.grad(output, leaves, weights) for output in outputs
    )
    for one, other in zip(got, expected, strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('modulated', [False, True])
@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_deformable_convolutions_equal_the_loop(settings, modulated):
    tensors = inputs(settings)
    if modulated:
        got = modulated_deform_conv2d(*tensors.values(), *settings)
    else:
        del tensors['mask'], tensors['bias']
        got = deform_conv2d(*tensors.values(), *settings)
    expected = convolve_by_loop(settings, **tensors)
    torch.testing.assert_close(got, expected)
    assert_same_gradients([got, expected], list(tensors.values()))


@pytest.mark.parametrize('modulated', [False, True])
def test_an_offset_to_exactly_minus_one_gets_no_gradient(modulated):
    settings = (1, 1, 1, 1, 1)
    tensors = inputs(settings)
    # Between two pixels, but for the first tap on the first outputs: that is
    # at -1, as all taps of a fresh layer with padding are.
    offset = torch.rand_like(tensors['offset']) * 0.8 + 0.1
    border = torch.zeros_like(offset, dtype=torch.bool)
    border[:, 0, 0, :] = True
    border[:, 1, :, 0] = True
    offset[border] = 0
    tensors['offset'] = offset.requires_grad_()
    if modulated:
        conv = modulated_deform_conv2d(*tensors.values(), *settings)
    else:
        del tensors['mask'], tensors['bias']
        conv = deform_conv2d(*tensors.values(), *settings)
    (grad,) = torch.autograd.grad(conv.sum(), tensors['offset'])
    loop = convolve_by_loop(settings, **tensors)
    (slow,) = torch.autograd.grad(loop.sum(), tensors['offset'])
    nothing = torch.zeros_like(border)
    nothing[:, :2, 0, :] = nothing[:, :2, :, 0] = True
    assert not grad[nothing].any()
    assert slow[nothing].any()
    torch.testing.assert_close(grad[~nothing], slow[~nothing])


def test_offsets_larger_than_the_output_are_read_from_their_head():
    torch.manual_seed(0)
    plane = torch.randn(2, 4, 5, 6, dtype=torch.double, requires_grad=True)
    weight = torch.randn(3, 4, 3, 3, dtype=torch.double)
    # Offsets are a slice of the channels of one map, as DyHead's are.
    both = torch.randn(2, 27, 7, 9, dtype=torch.double, requires_grad=True)
    large = both[:, :18], both[:, 18:].sigmoid()
    got = modulated_deform_conv2d(plane, *large, weight, None, 1, 1)
    heads = [
        torch.stack(
            [one.contiguous().flatten()[: c * 30].view(c, 5, 6) for one in x]
        )
        for x, c in zip(large, (18, 9), strict=True)
    ]
    expected = modulated_deform_conv2d(plane, *heads, weight, None, 1, 1)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    leaves, weights = (plane, both), torch.randn_like(got)
    torch.testing.assert_close(
        torch.autograd.grad(got, leaves, weights, retain_graph=True),
        torch.autograd.grad(expected, leaves, weights),
    )


def test_only_the_weight_wants_a_gradient():
    tensors = inputs(SETTINGS[0])
    leaves = [tensors[name] for name in ('input', 'offset', 'weight')]
    everything = deform_conv2d(*leaves, *SETTINGS[0]).square().sum()
    expected = torch.autograd.grad(everything, leaves[2])[0]
    frozen = [leaves[0].detach(), leaves[1].detach(), leaves[2]]
    alone = deform_conv2d(*frozen, *SETTINGS[0]).square().sum()
    torch.testing.assert_close(
        torch.autograd.grad(alone, leaves[2])[0], expected
    )


@pytest.mark.parametrize('kernel, padding', [(1, 0), (3, 1)])
def test_masked_conv_is_the_convolution_where_the_mask_is(kernel, padding):
    layer = MaskedConv2d(3, 5, kernel, padding=padding)
    plane = torch.randn(1, 3, 7, 9)
    mask = torch.rand(1, 7, 9) > 0.6
    with torch.no_grad():
        torch.testing.assert_close(layer(plane, mask), layer(plane) * mask)


def test_nan_offsets_take_nothing():
    """torchvision's kernel reads anywhere, and ends the process."""
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
