import pytest
import torch
from torch import nn

from mmdet_shufflenetv2.measure.guideline_experiments import (
    BLOCKS,
    PLATFORMS,
    SCALES,
    TITLES,
    experiments,
    predict,
)
from mmdet_shufflenetv2.paper.published import published_results

TABLES = {
    'G1': 'table1_g1',
    'G2': 'table2_g2',
    'G3': 'table3_g3',
    'G4': 'table4_g4',
}
PIXELS = 56 * 56


def cells(guideline, platform, scale=1):
    found = experiments(guideline, platform)
    return [cell for cell in found if cell.scale == scale]


@pytest.mark.parametrize('platform', PLATFORMS)
@pytest.mark.parametrize('guideline', TITLES)
def test_every_published_cell_is_an_experiment(guideline, platform):
    table = published_results()[TABLES[guideline]][PLATFORMS[platform]]
    for place, scale in enumerate(SCALES):
        found = cells(guideline, platform, scale)
        speeds = [row[-len(SCALES) :][place] for row in table.values()]
        assert [cell.paper_per_s for cell in found] == speeds


@pytest.mark.parametrize('platform', PLATFORMS)
@pytest.mark.parametrize('guideline', TITLES)
def test_flops_of_an_experiment_are_matched(guideline, platform):
    for scale in SCALES:
        flops = [predict(c, 1)[0] for c in cells(guideline, platform, scale)]
        # The paper's own widths of G1 differ by as much.
        assert max(flops) / min(flops) < 1.06


@pytest.mark.parametrize('platform', PLATFORMS)
@pytest.mark.parametrize('guideline', TITLES)
def test_networks_run_and_keep_the_size_of_values(guideline, platform):
    torch.manual_seed(0)
    for cell in cells(guideline, platform):
        network = cell.build()
        assert len(network) == BLOCKS
        x = torch.randn(1, cell.channels[0], 8, 8)
        with torch.no_grad():
            y = network(x)
        assert y.shape == x.shape
        assert 1e-3 < y.std() < 100


def test_g1_by_hand():
    first, *_, last = cells('G1', 'gpu')
    assert first.channels == (128, 128)
    assert last.channels == (36, 432)
    layer = PIXELS * (128 + 128) + 128 * 128
    assert predict(first, 1) == (20 * PIXELS * 128 * 128, 20 * layer)
    # The weights of a batch are read once.
    layer = 8 * PIXELS * (36 + 432) + 36 * 432
    assert predict(last, 8) == (20 * 8 * PIXELS * 36 * 432, 20 * layer)


def test_g2_by_hand():
    last = cells('G2', 'gpu')[-1]
    assert last.channels == (360,)
    weights = 360 * 360 // 8
    access = 10 * (PIXELS * 720 + weights)
    assert predict(last, 1) == (10 * PIXELS * weights, access)


def test_g3_by_hand():
    found = {cell.row: cell for cell in cells('G3', 'gpu')}
    parallel, series = found['4-parallel'], found['4-series']
    assert parallel.channels == series.channels == (64,)
    layers = 4 * 10 * (PIXELS * 128 + 64 * 64)
    assert predict(series, 1)[1] == layers
    # Three additions read two maps and write one.
    assert predict(parallel, 1)[1] == layers + 10 * 3 * 3 * PIXELS * 64


def test_g4_by_hand():
    both, no_shortcut, no_relu, neither = cells('G4', 'arm')
    layers = 2 * (PIXELS * (32 + 8) + 32 * 8) + (PIXELS * 16 + 9 * 8 * 8)
    relus = 2 * PIXELS * (8 + 8 + 32)
    shortcut = 3 * PIXELS * 32
    assert predict(neither, 1)[1] == 10 * layers
    assert predict(no_relu, 1)[1] == 10 * (layers + shortcut)
    assert predict(no_shortcut, 1)[1] == 10 * (layers + relus)
    assert predict(both, 1)[1] == 10 * (layers + relus + shortcut)


def test_parallel_fragments_are_summed():
    torch.manual_seed(0)
    parallel = next(c for c in cells('G3', 'arm') if c.row == '2-parallel')
    block = parallel.build()[0]
    convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    x = torch.randn(1, parallel.channels[0], 4, 4)
    torch.testing.assert_close(block(x), convs[0](x) + convs[1](x))


def test_what_g4_takes_out_is_out():
    for cell, (relus, sums) in zip(
        cells('G4', 'gpu'), [(30, 10), (30, 0), (0, 10), (0, 0)], strict=True
    ):
        modules = list(cell.build().modules())
        assert sum(isinstance(m, nn.ReLU) for m in modules) == relus
        assert sum(type(m).__name__ == 'Sum' for m in modules) == sums


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match='guideline must be one of G1, G2'):
        experiments('G5', 'gpu')
    with pytest.raises(ValueError, match='platform must be one of gpu, arm'):
        experiments('G1', 'tpu')
