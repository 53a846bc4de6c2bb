import pytest

from mmdet_shufflenetv2.measure.guidelines import verdicts


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
        'status': 'ok',
        **others,
    }


@pytest.mark.parametrize(
    'low, high, words',
    [
        ('1.1', '1.2', 'G1 (equal channel width'),
        ('1.1', '1.2', 'holds here: 1:12 takes 1.30 to 1.40 times'),
        ('0.9', '1.2', 'holds here at x2 only:'),
        ('0.9', '0.95', 'does not hold:'),
    ],
)
def test_a_guideline_holds_where_nine_of_ten_rounds_agree(low, high, words):
    rows = [row('x1', '1.3', low, '9'), row('x2', '1.4', high, '9')]
    (sentence,) = verdicts(rows)
    assert words in sentence
    assert 'paper: 1.50 to 1.50' in sentence
    assert 'memory access: 1.80 to 1.80' in sentence


@pytest.mark.parametrize('p90, holds', [('0.9', True), ('1.1', False)])
def test_g4_holds_where_less_is_faster(p90, holds):
    rows = [row('x1', '0.8', '0.7', p90, 'G4', 'ReLU no, shortcut no')]
    assert ('holds here:' in verdicts(rows)[0]) == holds


def test_each_setting_has_its_own_sentence_and_failures_have_none():
    rows = [
        row('x1', '1.3', '1.2', '1.4', batch='8'),
        row('x1', '1.1', '1.0', '1.4', batch='1'),
        row('x1', '', '', '', status='failed: RuntimeError'),
        row('x1', '1.3', '1.2', '1.4', name='1:2'),
    ]
    first, second = verdicts(rows)
    assert 'Batch 1,' in first
    assert 'Batch 8,' in second
