import pytest
import torch

from mmdet_shufflenetv2.measure.guidelines import (
    BLOCKS,
    SCALES,
    TABLES,
    Cell,
    predict,
    summary,
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
        # The paper's own widths of G1 differ by as much.
        assert max(flops) / min(flops) < 1.06


@EVERY
def test_networks_run_and_keep_the_size_of_values(guideline, platform):
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
    one_to_one, *_, one_to_twelve = at('G1', 'gpu')
    layer = PIXELS * (128 + 128) + 128 * 128
    assert predict(one_to_one, 1) == (20 * PIXELS * 128 * 128, 20 * layer)
    # The weights of a batch are read once.
    layer = 8 * PIXELS * (36 + 432) + 36 * 432
    flops = 20 * 8 * PIXELS * 36 * 432
    assert predict(one_to_twelve, 8) == (flops, 20 * layer)

    weights = 360 * 360 // 8
    access = 10 * (PIXELS * 720 + weights)
    assert predict(at('G2', 'gpu')[-1], 1) == (10 * PIXELS * weights, access)
    assert at('G2', 'arm')[-1].channels == (184,)

    fragments = {cell.row: cell for cell in at('G3', 'gpu')}
    layers = 4 * 10 * (PIXELS * 128 + 64 * 64)
    assert predict(fragments['4-series'], 1)[1] == layers
    # Three additions read two maps and write one.
    sums = 10 * 3 * 3 * PIXELS * 64
    assert predict(fragments['4-parallel'], 1)[1] == layers + sums

    layers = 2 * (PIXELS * (32 + 8) + 32 * 8) + (PIXELS * 16 + 9 * 8 * 8)
    relus = 2 * PIXELS * (8 + 8 + 32)
    shortcut = 3 * PIXELS * 32
    assert [predict(cell, 1)[1] for cell in at('G4', 'arm')] == [
        10 * (layers + relus + shortcut),
        10 * (layers + relus),
        10 * (layers + shortcut),
        10 * layers,
    ]


def row(scale, ratio, p10, p90, guideline='G1', name='1:12', **others):
    return {
        'guideline': guideline,
        'scale': scale,
        'row': name,
        'batch': '1',
        'precision': 'fp32',
        'mode': 'eager',
        'layout': 'contiguous',
        'time_ratio': ratio,
        'time_ratio_p10': p10,
        'time_ratio_p90': p90,
        'paper_time_ratio': '1.5',
        'memory_access_ratio': '1.8',
        **others,
    }


@pytest.mark.parametrize(
    'low, high, words',
    [
        ('1.1', '1.2', 'holds here: 1:12 takes 1.30 to 1.40 times'),
        ('0.9', '1.2', 'holds here at x2 only:'),
        ('0.9', '0.95', 'does not hold:'),
    ],
)
def test_a_guideline_holds_where_nine_of_ten_rounds_agree(low, high, words):
    rows = [row('x1', '1.3', low, '9'), row('x2', '1.4', high, '9')]
    (sentence,) = summary(rows)
    assert words in sentence
    assert 'paper: 1.50 to 1.50; memory access: 1.80 to 1.80' in sentence


@pytest.mark.parametrize('p90, holds', [('0.9', True), ('1.1', False)])
def test_g4_holds_where_less_is_faster(p90, holds):
    rows = [row('x1', '0.8', '0.7', p90, 'G4', 'ReLU no, shortcut no')]
    assert ('holds here:' in summary(rows)[0]) == holds


def test_each_setting_has_its_own_sentence():
    first, second = summary(
        [
            row('x1', '1.3', '1.2', '1.4', batch='8'),
            row('x1', '1.1', '1.0', '1.4', batch='1'),
            row('x1', '1.3', '1.2', '1.4', name='1:2'),
        ]
    )
    assert 'Batch 1,' in first
    assert 'Batch 8,' in second
