"""The paper's claims, checked on its own tables and on measurements."""

import pytest
from report_rows import COMMON, CPU, GPU, detector, g1, network

from mmdet_shufflenetv2.paper.claims import (
    CLAIMS,
    DITTO,
    NOT_MEASURED,
    claim_rows,
    finding,
    guideline_lines,
    published_ratios,
)
from mmdet_shufflenetv2.paper.results import read_results

MOBILE = 'network_mobilenet_v2'
V1_DETECTOR = 'detector_shufflenet_v1'
V1 = 'lighthead_shufflenetv1_'


@pytest.fixture
def said(results):
    """The rows of the table about a claim: (measured on, here, holds)."""

    def said(name):
        found, claim = [], None
        for row in claim_rows(results()):
            claim = claim if row['claim'] == DITTO else row['claim']
            if claim == CLAIMS[name].text:
                found.append(tuple(row.values())[2:])
        return found

    return said


@pytest.mark.parametrize(
    'name, platform, expected',
    [
        *(
            (name, platform, 'yes')
            for name, claim in CLAIMS.items()
            for platform in ('gpu', 'arm')
            if claim.said_of in ('any', platform)
        ),
        # 8 groups cost a GPU far more than 30 %, and ARM less than half.
        ('g2_arm', 'gpu', 'no'),
        ('g2_gpu', 'arm', 'less'),
        ('g3_gpu', 'arm', 'less'),
    ],
)
def test_the_papers_own_tables_pass_the_rules(name, platform, expected):
    ratios = published_ratios(CLAIMS[name], platform)
    assert finding(CLAIMS[name], ratios)[1] == expected


@pytest.mark.parametrize(
    'ratios, expected',
    [
        ([(0.80, 0.7, 0.9)], 'yes'),
        ([(0.86, 0.7, 0.9)], 'yes'),  # 16 % is about 20 %
        ([(0.90, 0.8, 0.95)], 'less'),
        ([(0.90, 0.8, 1.01)], 'no'),
        ([(1.20, 1.1, 1.3)], 'no'),
        # The median of the scales decides.
        ([(0.5, 0.5, 0.5), (0.8, 0.8, 0.8), (0.95, 0.9, 1)], 'yes'),
    ],
)
def test_a_figure_is_reached_or_missed_in_size_or_in_direction(
    ratios, expected
):
    places = [(CLAIMS['g4'].rows, f'x{scale}') for scale in (1, 2, 4)]
    found = dict(zip(places, ratios, strict=False))
    assert finding(CLAIMS['g4'], found)[1] == expected


def test_feature_reuse_is_read_from_the_committed_file(root):
    reuse = claim_rows(read_results(root / 'results'))[-1]
    assert reuse['holds here'] == 'yes'


def test_equal_channels_must_win_in_memory_access_and_in_time(write, said):
    write('guidelines', *(g1('1:12', 1.5, x) for x in ('x1', 'x2', 'x4')))
    ((_, here, holds),) = said('g1')
    assert holds == 'yes'
    assert here.startswith('1.50 to 1.50 times the time; memory access of')
    # 0.9 * 1.05 is less than 1: not nine of ten rounds agree.
    write('guidelines', g1('1:12', 1.05, 'x4'))
    assert said('g1')[0][2] == 'no'


def test_memory_access_that_was_not_measured_is_not_mentioned(write, said):
    write('guidelines', g1('1:12', 1.5, memory_access_ratio=''))
    assert 'memory access' not in said('g1')[0][1]


def test_the_command_says_what_the_table_does_and_more(write, said):
    rows = [{**COMMON, **CPU, **g1('1:12', 1.5, x)} for x in ('x1', 'x2')]
    write('guidelines', *rows)
    (answer,) = said('g1')
    line, legend = guideline_lines(rows)
    assert all(words in line for words in (CLAIMS['g1'].text, *answer))
    assert 'no: neither' in legend
    # The table leaves these out.
    others = [row | dict(precision='fp16', time_ratio='0.9') for row in rows]
    same, other, _ = guideline_lines([*rows, *others])
    assert same == line
    assert 'fp16' in other
    ratios = 'time_ratio', 'time_ratio_p10', 'time_ratio_p90'
    edited = dict(time_ratio='x'), dict(memory_access_ratio='x')
    for change in (*edited, dict.fromkeys(ratios, '')):
        assert guideline_lines([rows[0] | change]) == []
    groups = {**COMMON, **GPU, **g1('8 groups', 4.0, guideline='G2')}
    line, _ = guideline_lines([groups])
    assert line.startswith(CLAIMS['g2_gpu'].text)


def test_every_machine_answers_but_gpus_not_claims_about_arm(write, said):
    row = network('mobilenet_v2_x1_4', 1 / 1.58)
    groups = g1('8 groups', 4.0, guideline='G2')
    write('backbones', row, row | dict(cpu='Core Z'))
    write('guidelines', groups)
    gpu = dict(batch='8', platform='gpu')
    write('backbones', row | gpu, where=GPU)
    write('guidelines', groups | gpu, where=GPU)
    on_gpu, on_cpu, _ = sorted(said(MOBILE))
    assert on_gpu[0].startswith('Card Y')
    assert on_cpu == (
        'Core X, folded, 1 thread, PyTorch 2.14.1, batch 1',
        '58 % faster (44 to 75)',
        'yes (said of a GPU)',
    )
    assert len(said('g2_arm')) == 1
    (on_gpu,) = (row[1:] for row in said('g2_gpu') if 'Card' in row[0])
    assert on_gpu == ('4.00 times the time (3.60 to 4.40) (at x1 only)', 'yes')


@pytest.mark.parametrize(
    'ratios, words',
    [
        ([(1.07, 1.06, 1.08)], '7 % slower (6 to 7)'),
        ([(0.98, 0.9, 1.04)], '2 % faster (4 % slower to 11 % faster)'),
        ([(1.1, 1, 1), (1.3, 1, 1)], '9 to 23 % slower'),
        ([(0.8, 1, 1), (1.3, 1, 1)], '23 % slower to 25 % faster'),
    ],
)
def test_a_negative_amount_is_phrased_as_its_opposite(ratios, words):
    places = [(CLAIMS['g4'].rows, f'x{scale}') for scale in (1, 2, 4)]
    found = dict(zip(places, ratios, strict=False))
    assert finding(CLAIMS['g4'], found)[0].startswith(words)


def test_rows_of_other_settings_neither_mix_nor_empty_a_claim(write, said):
    """So did a later row with ``--threads 2``."""
    columns = {'x0_5': '40M', 'x1_0': '140M', 'x1_5': '300M', 'x2_0': '500M'}
    rows = [detector(f'{V1}{w}', 0.5, column) for w, column in columns.items()]
    write('detectors', *rows)
    for change in (
        dict(threads='2'),
        dict(torch='2.15.0'),
        dict(layout='contiguous'),
        dict(clock='cpu'),
        dict(input='1200x800'),
        dict(config='densenet_x2_0'),
    ):
        later = dict(date='2026-02-02', speed_ratio='0.9', **change)
        write('detectors', rows[1] | later)
    ((on, here, _),) = said(V1_DETECTOR)
    assert here == '100 to 100 % faster'
    assert on == 'Core X, 1 thread, PyTorch 2.14.1, batch 4, 600x400'


@pytest.mark.parametrize(
    'change',
    [
        dict(precision='bf16'),
        dict(batch='8'),
        dict(mode='compiled'),
        dict(status='failed'),
        dict(warning='--quick, times spread 30%'),
        dict(doubt='--quick'),
        dict(part='post-processing'),
        dict(part='end to end'),
    ],
)
def test_only_the_papers_setting_counts_and_no_trial(write, said, change):
    write('detectors', detector(f'{V1}x1_0', 0.5, **change))
    assert said(V1_DETECTOR)[0][1] == NOT_MEASURED


def test_cuda_graphs_are_preferred_to_launches_by_the_host(write, said):
    row = network('mobilenet_v2_x1_4', 0.5, batch='8', mode='graph')
    rows = row, network('mobilenet_v2_x1_4', 0.9, batch='8')
    write('backbones', *rows, where=GPU)
    assert said(MOBILE)[0][1].startswith('100 % faster')
