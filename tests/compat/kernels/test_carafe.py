"""CARAFE against a loop over output pixels."""

import pytest
import torch
from mmcv.ops import CARAFEPack, carafe
from torch import Tensor

KERNEL, GROUPS, SCALE = 3, 2, 2


@pytest.fixture
def tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 4, 3, 5), (2, GROUPS * KERNEL**2, 3 * SCALE, 5 * SCALE)
    return [
        torch.randn(shape, generator=generator, dtype=torch.double)
        for shape in shapes
    ]


def upsample_by_loop(features: Tensor, masks: Tensor) -> Tensor:
    n, channels, height, width = features.shape
    output = features.new_zeros(n, channels, height * SCALE, width * SCALE)
    edge = KERNEL // 2
    for channel in range(channels):
        group = channel // (channels // GROUPS)
        for y in range(height * SCALE):
            for x in range(width * SCALE):
                for tap in range(KERNEL**2):
                    row = y // SCALE + tap // KERNEL - edge
                    column = x // SCALE + tap % KERNEL - edge
                    if 0 <= row < height and 0 <= column < width:
                        output[:, channel, y, x] += (
                            features[:, channel, row, column]
                            * masks[:, group * KERNEL**2 + tap, y, x]
                        )
    return output


def test_carafe_equals_the_loop(tensors):
    got = carafe(*tensors, KERNEL, GROUPS, SCALE)
    torch.testing.assert_close(got, upsample_by_loop(*tensors))


def test_carafe_upsampler_trains_in_half_precision():
    layer = CARAFEPack(4, SCALE, encoder_dilation=1, compressed_channels=4)
    plane = torch.randn(1, 4, 6, 6)
    exact = layer(plane)
    with torch.autocast('cpu', torch.bfloat16):
        output = layer(plane)
    torch.testing.assert_close(output.float(), exact, rtol=0, atol=0.1)
    output.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
