import pytest
from report_rows import GPU, g1, network

from mmdet_shufflenetv2.paper.claims import (
    NOT_MEASURED,
    RULES,
    claim_rows,
    claims,
    finding,
)
from mmdet_shufflenetv2.paper.evidence import (
    PLATFORMS,
    Evidence,
    Key,
    Spread,
    published,
)
from mmdet_shufflenetv2.paper.results import whole_results


def by_claim(folder):
    """The table's rows by a claim's name; the first one's is empty."""
    names = ['', *claims()]
    rows = claim_rows(whole_results(folder))
    return dict(zip(names, rows, strict=True))


def said(name, *ratios):
    """The verdict on ratios of Table 4's last row, with their spreads."""
    evidence = Evidence(
        {
            Key('Table 4', 'ReLU no, shortcut no', f'x{2**place}'): ratio
            for place, ratio in enumerate(ratios)
        }
    )
    return finding(name, evidence)


def test_every_claim_has_a_rule_and_every_rule_a_claim():
    assert {*RULES, 'reuse'} == set(claims())


@pytest.mark.parametrize('name', RULES)
def test_the_papers_own_tables_pass_the_rules(name):
    of = claims()[name]['said_of']
    for platform in PLATFORMS if of == 'any' else [of]:
        assert finding(name, published(platform)).verdict == 'yes'


def test_rules_tell_the_papers_platforms_apart():
    # 8 groups cost a GPU far more than 30 %, and ARM less than half.
    assert finding('g2_arm', published('gpu')).verdict == 'no'
    assert finding('g2_gpu', published('arm')).verdict == 'less'
    assert finding('g3_gpu', published('arm')).verdict == 'less'


def test_without_measurements_nothing_holds_but_what_is_counted(folder):
    rows = by_claim(folder)
    counted = rows.pop('reuse')
    assert counted['holds here'] == 'yes'
    for row in rows.values():
        assert row['measured on CPU'] == NOT_MEASURED
        assert row['measured on GPU'] == NOT_MEASURED
        assert row['holds here'] in (NOT_MEASURED, '-')


@pytest.mark.parametrize(
    'ratio, verdict',
    [
        (Spread(0.80, 0.7, 0.9), 'yes'),
        (Spread(0.86, 0.7, 0.9), 'yes'),  # 16 % is about 20 %
        (Spread(0.90, 0.8, 0.95), 'less'),
        (Spread(0.90, 0.8, 1.01), 'no'),
        (Spread(1.20, 1.1, 1.3), 'no'),
    ],
)
def test_a_figure_is_reached_or_missed_or_missed_within_the_spread(
    ratio, verdict
):
    assert said('g4', ratio).verdict == verdict


def test_the_median_scale_decides_and_all_are_shown():
    ratios = [Spread(v, v - 0.01, v + 0.01) for v in (0.5, 0.8, 0.95)]
    found = said('g4', *ratios)
    assert found.verdict == 'yes'
    assert found.text == '5 to 100 % faster'


def test_equal_channels_must_win_in_memory_access_and_in_time(folder, write):
    scales = 'x1', 'x2', 'x4'
    write('guidelines', *(g1('1:12', 1.5, scale) for scale in scales))
    row = by_claim(folder)['g1']
    assert row['holds here'] == 'CPU: yes'
    assert '1.50 to 1.50 times the time at 1:12' in row['measured on CPU']
    # 0.9 * 1.05 is less than 1: not nine of ten rounds agree.
    write('guidelines', g1('1:12', 1.05, 'x4'))
    assert by_claim(folder)['g1']['holds here'] == 'CPU: no'


def test_claim_about_a_gpu_says_so_when_a_cpu_answers(folder, write):
    write('backbones', network('mobilenet_v2_x1_4', 1 / 1.58))
    row = by_claim(folder)['network_mobilenet_v2']
    assert row['holds here'] == 'CPU: yes (said of a GPU)'
    assert row['measured on CPU'] == '58 % faster (44 to 75)'
    assert row['measured on GPU'] == NOT_MEASURED


def test_gpu_file_fills_the_gpus_column(folder, write):
    fast = network('mobilenet_v2_x1_4', 1 / 1.2, batch='8')
    write('backbones', fast, where=GPU, name='backbones_cuda')
    rows = by_claim(folder)
    row = rows['network_mobilenet_v2']
    assert row['measured on GPU'].startswith('20 % faster')
    assert row['measured on CPU'] == NOT_MEASURED
    assert row['holds here'] == 'GPU: less'
    assert rows['']['measured on GPU'] == 'Card Y: networks with batch 8'


def test_claim_about_arm_gets_no_answer_from_a_gpu(folder, write):
    groups = g1('8 groups', 4.0) | dict(guideline='G2', platform='gpu')
    groups['batch'] = '8'
    write('guidelines', groups, where=GPU, name='guidelines_cuda')
    rows = by_claim(folder)
    assert rows['g2_arm']['holds here'] == NOT_MEASURED
    assert rows['g2_gpu']['holds here'] == 'GPU: yes'
    assert '(at x1 only)' in rows['g2_gpu']['measured on GPU']


def test_only_the_papers_setting_counts(folder, write):
    name = 'mobilenet_v2_x1_4'
    write(
        'backbones',
        network(name, 0.5, precision='bf16'),
        network(name, 0.5, batch='8'),
        network(name, 0.5, status='failed'),
    )
    row = by_claim(folder)['network_mobilenet_v2']
    assert row['measured on CPU'] == NOT_MEASURED


def test_of_two_machines_the_one_measured_last_counts(folder, write):
    name = 'mobilenet_v2_x1_4'
    write(
        'backbones',
        network(name, 0.5, cpu='New', date='2026-02-02'),
        network(name, 0.9),
    )
    rows = by_claim(folder)
    assert rows['']['measured on CPU'].startswith('New: networks with 1')
    assert rows['network_mobilenet_v2']['measured on CPU'].startswith('100 %')


def test_cuda_graph_goes_before_what_the_host_launches(folder, write):
    rows = (
        network('xception_x2_0', 0.5, batch='8') | dict(mode='graph'),
        network('xception_x2_0', 0.9, batch='8'),
    )
    write('backbones', *rows, where=GPU, name='backbones_cuda')
    row = by_claim(folder)['network_xception']
    assert row['measured on GPU'].startswith('100 % faster')
