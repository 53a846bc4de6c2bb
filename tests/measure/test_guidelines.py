import pytest
import torch

from mmdet_shufflenetv2.measure.guidelines import (
    BLOCKS,
    SCALES,
    TABLES,
    Cell,
    predict,
)

PIXELS = 56 * 56
EVERY = pytest.mark.parametrize(
    'guideline, platform', [(g, p) for g in TABLES for p in ('gpu', 'arm')]
)


def at(guideline, platform, scale=1):
    return [Cell(guideline, platform, r, scale) for r in TABLES[guideline]]


@EVERY
def test_flops_of_an_experiment_are_matched(guideline, platform):
    for scale in SCALES:
        flops = [predict(c, 1)[0] for c in at(guideline, platform, scale)]
        # The paper's own widths for G1 differ by this much.
        assert max(flops) / min(flops) < 1.06


@EVERY
def test_networks_run_and_preserve_the_scale_of_values(guideline, platform):
    torch.manual_seed(0)
    for cell in at(guideline, platform):
        network = cell.build()
        assert len(network) == BLOCKS
        x = torch.randn(1, cell.channels[0], 8, 8)
        with torch.no_grad():
            y = network(x)
        assert y.shape == x.shape
        assert 1e-3 < y.std() < 100


def test_cost_by_hand():
    # Weights are read once per batch.
    one_to_twelve = at('G1', 'gpu')[-1]
    layer = 8 * PIXELS * (36 + 432) + 36 * 432
    flops = 20 * 8 * PIXELS * 36 * 432
    assert predict(one_to_twelve, 8) == (flops, 20 * layer)

    weights = 360 * 360 // 8
    access = 10 * (PIXELS * 720 + weights)
    assert predict(at('G2', 'gpu')[-1], 1) == (10 * PIXELS * weights, access)
    assert at('G2', 'arm')[-1].channels == (184,)

    # Three additions read two maps and write one.
    four_parallel = 4 * (PIXELS * 128 + 64 * 64) + 3 * 3 * PIXELS * 64
    assert predict(at('G3', 'gpu')[-1], 1)[1] == 10 * four_parallel

    layers = 2 * (PIXELS * (32 + 8) + 32 * 8) + (PIXELS * 16 + 9 * 8 * 8)
    relus = 2 * PIXELS * (8 + 8 + 32)
    shortcut = 3 * PIXELS * 32
    assert [predict(cell, 1)[1] // 10 for cell in at('G4', 'arm')] == [
        layers + relus + shortcut,
        layers + relus,
        layers + shortcut,
        layers,
    ]
