"""Multi-scale deformable attention against a loop over samples."""

import math

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch import Tensor

LEVELS = torch.tensor([[4, 5], [2, 3]])
STARTS = torch.tensor([0, 20])


@pytest.fixture
def tensors() -> list[Tensor]:
    """Values (N 2, keys 26, heads 2, C 3), places, weights; 4 queries."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 26, 2, 3, generator=generator)
    places = torch.rand(2, 4, 2, 2, 2, 2, generator=generator) * 1.4 - 0.2
    weights = torch.rand(2, 4, 2, 2, 2, generator=generator)
    return [tensor.double() for tensor in (values, places, weights)]


def attend(values: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """mmcv's function, which it calls itself for CUDA tensors only."""
    return MultiScaleDeformableAttnFunction.apply(
        values, LEVELS, STARTS, places, weights, 64
    )


def attend_by_loop(values: Tensor, places: Tensor, weights: Tensor):
    n, queries, heads = weights.shape[:3]
    output = values.new_zeros(n, queries, heads, values.size(-1))
    for i in range(weights.numel()):
        image, query, head, level, point = (
            int(x) for x in torch.unravel_index(torch.tensor(i), weights.shape)
        )
        height, width = LEVELS[level].tolist()
        x, y = places[image, query, head, level, point].tolist()
        x, y = x * width - 0.5, y * height - 0.5
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < height and 0 <= column < width:
                    key = int(STARTS[level]) + row * width + column
                    output[image, query, head] += (
                        (1 - abs(y - row))
                        * (1 - abs(x - column))
                        * weights[image, query, head, level, point]
                        * values[image, key, head]
                    )
    return output.flatten(2)


def test_attention_equals_the_loop(tensors):
    torch.testing.assert_close(attend(*tensors), attend_by_loop(*tensors))
