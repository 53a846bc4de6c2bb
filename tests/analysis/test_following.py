"""Networks that make something else of maps than maps.

Where it can be, what is said to be seen is held against gradients: with
positive weights, they come from all that a position depends on.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from mmdet_shufflenetv2.analysis.receptive_field import (
    Field,
    gradient_maps,
    theoretical_fields,
)


def field_of(network, size=(32, 32)) -> Field | None:
    image = torch.randn(1, 3, *size)
    levels = theoretical_fields(lambda x: {'level': network(x)}, image)
    return levels['level']


def tokens_of(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H W, C)."""
    return x.flatten(2).transpose(1, 2)


def map_of(tokens: Tensor) -> Tensor:
    """The square map of tokens."""
    side = int(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def positive(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.data.fill_(0.1)
    return module.eval()


def focus(x: Tensor) -> Tensor:
    rows = (x[..., ::2, :], x[..., 1::2, :])
    return torch.cat([r[..., i::2] for r in rows for i in (0, 1)], 1)


def merged_patches(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    x = x.view(n, c, h // 4, 4, w // 4, 4)
    return x.permute(0, 1, 3, 5, 2, 4).reshape(n, 16 * c, h // 4, w // 4)


def unfolded(x: Tensor) -> Tensor:
    return F.unfold(x, 3, padding=1).view(1, 27, 32, 32)


def written_in_place(x: Tensor) -> Tensor:
    """Even rows are blurred, the others are not."""
    out = torch.zeros_like(x)
    out[:, :, ::2] = F.avg_pool2d(x, 3, 1, 1)[:, :, ::2]
    out[:, :, 1::2] = x[:, :, 1::2]
    return out * 2


def in_windows(x: Tensor) -> Tensor:
    """Every window of 8x8 pixels is averaged, and shifted by 4 before."""
    x = x.roll((-4, -4), (2, 3))
    n, c, h, w = x.shape
    x = x.view(n, c, h // 8, 8, w // 8, 8)
    x = x + x.mean((3, 5), keepdim=True)
    return x.view(n, c, h, w).roll((4, 4), (2, 3))


def padded_on_one_side(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)


def shifted(x: Tensor) -> Tensor:
    return x + F.pad(x[..., 8:], (0, 8))


def along_rows(x: Tensor) -> Tensor:
    return x + x.mean(3, keepdim=True)


CONV = positive(nn.Conv2d(3, 3, 3, padding=1))
LINE = positive(nn.Conv1d(3, 3, 5, padding=2))
VOLUME = positive(nn.Conv3d(3, 3, (1, 3, 5), padding=(0, 1, 2)))
DILATED = positive(nn.ConvTranspose2d(3, 3, 3, padding=2, dilation=2))
SPATIAL = positive(nn.Conv2d(2, 1, 3, padding=1))


def attends_to_places(x: Tensor) -> Tensor:
    """CBAM: the channels' mean and maximum are local."""
    x = CONV(x)
    both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    return x * SPATIAL(both)


def shrunk(x: Tensor, mode: str) -> Tensor:
    return F.interpolate(x, scale_factor=0.25, mode=mode, antialias=True)


@pytest.mark.parametrize(
    'network, size, stride',
    [
        (focus, (2, 2), (2, 2)),
        (lambda x: CONV(focus(x)[:, 3:6]), (5, 5), (2, 2)),
        (lambda x: CONV(focus(x)[:, 2:5]), (5, 6), (2, 2)),
        (lambda x: F.pixel_unshuffle(x, 2), (2, 2), (2, 2)),
        (lambda x: F.pixel_shuffle(merged_patches(x), 4), (1, 1), (1, 1)),
        (merged_patches, (4, 4), (4, 4)),
        (unfolded, (3, 3), (1, 1)),
        (lambda x: CONV(unfolded(x)[:, :3]), (3, 5), (1, 1)),
        (in_windows, (8, 8), (1, 1)),
        (padded_on_one_side, (2, 2), (1, 1)),
        (shifted, (1, 9), (1, 1)),
        (lambda x: CONV(shifted(x)), (3, 11), (1, 1)),
        (along_rows, (1, 32), (1, 1)),
        (lambda x: x + x.mT.cumsum(2).mT, (1, 17), (1, 1)),
        (attends_to_places, (5, 5), (1, 1)),
        (lambda x: DILATED(CONV(x)), (7, 7), (1, 1)),
        (lambda x: VOLUME(x[:, :, None])[:, :, 0], (3, 5), (1, 1)),
        (lambda x: LINE(x.flatten(2)).view(x.shape), (1, 5), (1, 1)),
        (written_in_place, (3, 3), (1, 1)),
        (lambda x: F.softmax(CONV(x), 1) * x, (3, 3), (1, 1)),
        (lambda x: F.glu(torch.cat([x, CONV(x)], 1), 1), (3, 3), (1, 1)),
        (lambda x: F.glu(shifted(x), 3).repeat(1, 1, 1, 2), (1, 25), (1, 1)),
        (lambda x: F.hardswish(F.mish(CONV(x) - 1)), (3, 3), (1, 1)),
        (lambda x: F.layer_norm(x, (32,)), (1, 32), (1, 1)),
    ],
)
def test_a_position_sees_what_its_gradient_comes_from(network, size, stride):
    found = field_of(network)
    assert found == Field(size, stride)
    image = torch.zeros(1, 3, 32, 32)
    maps = gradient_maps(lambda x: {'level': network(x)}, image, samples=4)
    rows, columns = (maps['level'] > 0).nonzero(as_tuple=True)
    reach = [(p.max() - p.min() + 1).item() for p in (rows, columns)]
    assert reach == [*size]


@pytest.mark.parametrize(
    'network, size, stride',
    [
        # The widest of bins that overlap, 4 to 5 positions each.
        (lambda x: F.adaptive_avg_pool2d(x, 9), (5, 5), (32 / 9, 32 / 9)),
        (lambda x: F.adaptive_max_pool2d(x, 8), (4, 4), (4, 4)),
        (partial(shrunk, mode='bilinear'), (8, 8), (4, 4)),
        (partial(shrunk, mode='bicubic'), (16, 16), (4, 4)),
    ],
)
def test_windows_of_resized_maps_hold_all_that_gradients_come_from(
    network, size, stride
):
    assert field_of(network) == Field(size, stride)
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    result = network(image)
    for row in range(result.shape[2]):
        (gradient,) = torch.autograd.grad(
            result[0, :, row, 4].sum(), image, retain_graph=True
        )
        rows = gradient.abs().sum((0, 1, 3)).nonzero()
        assert rows.max() - rows.min() + 1 <= size[0]


def strided_and_back(x: Tensor) -> Tensor:
    """As a feature pyramid does: 25 positions, 13, and 25 again."""
    fine = F.max_pool2d(x[..., :25, :25], 1)
    return fine + F.interpolate(F.max_pool2d(fine, 1, 2), size=(25, 25))


def test_maps_of_rounded_sizes_that_meet_have_the_finer_stride():
    assert field_of(strided_and_back).stride == (1, 1)


def test_pooling_all_of_a_map_is_the_mean_of_a_squeeze():
    def squeeze(x):
        return CONV(x) * F.avg_pool2d(x, x.shape[2:])

    assert field_of(squeeze) == Field((3, 3), (1, 1), whole_by='avg_pool2d')


LINEAR, TOKENS = nn.Linear(64, 64), nn.Conv2d(3, 8, 4, stride=4)
ENCODER = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
ATTENTION = nn.MultiheadAttention(8, 2, batch_first=True).eval()
BOTH_WAYS = nn.LSTM(8, 4, batch_first=True, bidirectional=True)


def attended(x: Tensor) -> Tensor:
    return ATTENTION(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize(
    'mix',
    [
        lambda t: LINEAR(t.mT).mT,
        lambda t: (t @ t.mT) @ t,
        attended,
    ],
)
def test_mixed_tokens_see_the_whole_image_and_their_own_part_if_added(mix):
    alone = field_of(lambda x: map_of(mix(tokens_of(TOKENS(x)))))
    assert alone.size is None
    assert alone.stride == (4, 4)
    assert alone.whole_by

    def residual(x):
        tokens = tokens_of(TOKENS(x))
        return map_of(tokens + mix(tokens).mean(2, keepdim=True))

    beside = field_of(residual)
    assert (beside.size, beside.stride) == ((4, 4), (4, 4))
    assert beside.whole_by == alone.whole_by


def test_a_transformer_layer_is_looked_into():
    found = field_of(lambda x: map_of(ENCODER(tokens_of(TOKENS(x)))))
    assert found.size == (4, 4)
    assert found.whole_by == 'scaled_dot_product_attention'
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize('layer', [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_sees_what_came_before(layer):
    layer = layer(8, 8, batch_first=True)

    def network(x):
        return map_of(layer(tokens_of(TOKENS(x)))[0])

    both = field_of(lambda x: map_of(BOTH_WAYS(tokens_of(TOKENS(x)))[0]))
    assert both == Field((32, 32), (4, 4))
    # Rows 0 to 4 of the 8 that the middle lies in, from left to right.
    assert field_of(network) == Field((20, 32), (4, 4))


def test_a_vector_sees_the_whole_image():
    linear = nn.Linear(3 * 32 * 32, 5)
    found = field_of(lambda x: linear(CONV(x).flatten(1)))
    assert found == Field(None, None, whole_by='addmm')
    pooled = field_of(lambda x: CONV(x).mean((2, 3)))
    assert pooled == Field(None, None, whole_by='mean')
    map_ = field_of(lambda x: F.adaptive_avg_pool2d(CONV(x), 1))
    assert map_ == Field(None, (32, 32), whole_by='mean')


def test_what_follows_an_unknown_operation_is_unknown():
    found = field_of(lambda x: CONV(torch.fft.rfft2(CONV(x)).real))
    assert found.size is None
    assert 'fft_r2c cannot be followed' in found.unknown
    assert found.whole_by is None


def test_what_is_overwritten_is_forgotten():
    def network(x):
        wide = CONV(CONV(x))
        wide.copy_(x)
        return wide

    assert field_of(network) == Field((1, 1), (1, 1))
    assert field_of(lambda x: CONV(x).zero_()) is None


def test_padding_does_not_make_deep_maps_end_at_the_image():
    def network(x):
        for _ in range(20):
            x = F.conv2d(F.pad(x, (1, 1, 1, 1)), CONV.weight)
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), 'reflect'), CONV.weight)
        return x

    assert field_of(network) == Field((81, 81), (1, 1))


def test_a_deformed_kernel_may_look_anywhere_at_its_stride():
    offsets = nn.Conv2d(3, 18, 3, stride=2, padding=1)
    weight = torch.randn(4, 3, 3, 3)

    def network(x):
        x = CONV(x)
        x = deform_conv2d(x, offsets(x), weight, None, 2, 1)
        return F.conv2d(x, CONV.weight.new_ones(2, 4, 3, 3), padding=1)

    assert field_of(network) == Field((9, 9), (2, 2), 'deform_conv2d')


def test_what_is_sampled_by_a_grid_may_come_from_anywhere():
    grid = torch.zeros(1, 16, 16, 2)
    found = field_of(
        lambda x: F.grid_sample(CONV(x), grid, align_corners=False)
    )
    assert found == Field((4, 4), (2, 2), 'grid_sampler_2d')
