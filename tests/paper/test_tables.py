import pytest
from report_rows import CPU, GPU, g1, network

from mmdet_shufflenetv2.paper.claims import NOT_MEASURED
from mmdet_shufflenetv2.paper.comparison import NONE
from mmdet_shufflenetv2.paper.other_tables import (
    accuracy_table,
    command_table,
    environment_table,
)
from mmdet_shufflenetv2.paper.paper_tables import COMPARISONS
from mmdet_shufflenetv2.paper.published import (
    classification_results,
    published_results,
)
from mmdet_shufflenetv2.paper.results import read_results


@pytest.fixture
def table(folder):
    """One of the paper's tables of what is in the folder."""

    def make(name):
        comparison = next(each for each in COMPARISONS if each.name == name)
        rows = [
            row
            for file in read_results(folder)
            if file.kind == comparison.kind
            for row in file.rows
        ]
        return comparison.table(rows)

    return make


def line(table, *words):
    """The one row that has these cells."""
    (found,) = (e for e in table.lines if set(words) <= set(e.cells))
    return found


@pytest.mark.parametrize('comparison', COMPARISONS, ids=lambda each: each.name)
def test_unmeasured_table_lists_what_was_published(comparison):
    table = comparison.table([])
    assert table.lines
    for each in table.lines:
        assert len(each.cells) == len(table.columns)
        assert NOT_MEASURED in each.cells
        assert not each.device


def test_every_published_network_is_in_table_8_on_both_platforms(table):
    lines = table('table8').lines
    small = [n for n, r in classification_results().items() if r.complexity]
    assert len(lines) == 2 * len(small)
    assert {each.cells[1] for each in lines} == set(small)


def test_measured_row_stands_beside_the_papers(table, write):
    # 0.5 ms are 2000 batches a second; the paper has 57.6 and 1.323.
    write('guidelines', g1('1:12', 1.5) | dict(median_ms='0.5'))
    found = line(table('g1'), 'Core X', '1:12', 'x1')
    titles = [column.title for column in table('g1').columns]
    compared = ['paper', 'here', 'here / paper']
    ratios = [*compared[:2], 'p10 to p90', compared[2]]
    assert titles[3:11] == ['batch', *compared, *ratios]
    assert found.cells[3:11] == (
        '1',
        '57.6',
        '2000',
        '34.7',
        '1.323',
        '1.5',
        '1.35 to 1.65',
        '1.13',
    )
    # What of the table was not measured on that machine is there, too.
    other = line(table('g1'), 'Core X', '1:6', 'x4')
    assert NOT_MEASURED in other.cells


def test_each_device_and_setting_has_its_own_rows(table, write):
    row = network('xception_x2_0', 0.9)
    write('backbones', row, row | dict(threads='2'))
    write('backbones', row, where=GPU, name='backbones_cuda')
    lines = [e for e in table('table8').lines if '0.9' in e.cells]
    assert {(e.device, e.setting) for e in lines} == {
        ('Core X', 'fp32, folded, channels_last, 1 thread'),
        ('Core X', 'fp32, folded, channels_last, 2 threads'),
        ('Card Y', 'fp32, folded, channels_last'),
    }


def test_later_measurement_replaces_and_later_failure_does_not(table, write):
    row = network('xception_x2_0', 0.9)
    write('backbones', row, row | dict(speed_ratio='0.8'))
    write('backbones', row | dict(status='failed: x', speed_ratio=''))
    found = line(table('table8'), 'Core X', 'xception_x2_0')
    assert '0.8' in found.cells
    assert 'failed: x' not in found.cells


def test_failure_is_told_where_nothing_was_measured(table, write):
    failed = dict(status='does not fit in memory', speed_ratio='')
    write('backbones', network('xception_x2_0', 0.9) | failed)
    found = line(table('table8'), 'Core X', 'xception_x2_0')
    assert 'does not fit in memory' in found.cells


def test_detectors_on_a_cpu_have_the_gpus_ratio_but_not_its_speed(
    table, write
):
    row = dict(
        config='lighthead_xception_x0_5',
        column='40M',
        part='detection',
        input='600x400',
        batch='4',
        median_ms='400',
        paper_per_s='',
        paper_speed_ratio='',
        speed_ratio='1.0',
        doubt='',
    )
    write('detectors', row)
    found = line(table('table7'), 'Core X', 'detection', '600x400')
    speeds = published_results()['table7_coco_lighthead']
    ratio, base = (
        speeds[family]['images_per_s'][0]
        for family in ('xception', 'shufflenet_v2')
    )
    assert found.cells[4:9] == ('4', NONE, '10', NONE, f'{ratio / base:.4g}')


def test_accuracy_is_that_of_trainings_on_coco(folder, write_plain):
    row = dict(data='COCO', config='lighthead_shufflenetv2', mAP='0.2')
    write_plain('trained.csv', row | dict(data='BCCD', mAP='0.9'), row)
    table = accuracy_table(read_results(folder))
    (found,) = (e for e in table.lines if e.cells[1] == row['config'])
    assert found.cells[2:5] == ('29.0', '20.0', '0.69')
    assert sum(NOT_MEASURED in e.cells for e in table.lines) == 19


def test_absent_ops_are_not_measured_and_say_by_what_they_would_be():
    table = command_table('ops', [])
    assert table.note == 'Not measured: python tools/benchmark.py ops'


def test_environment_tells_machine_dates_and_commits(folder, write):
    write('guidelines', g1('1:12', 1.5), g1('1:12', 1.5, 'x2'))
    write('backbones', network('xception_x2_0', 1, date='2026-03-03'))
    write('backbones', network('xception_x2_0', 1, commit='def'))
    table = environment_table(read_results(folder))
    assert len(table.lines) == 2
    (folded,) = (e for e in table.lines if 'folded' in e.cells)
    assert folded.cells[-4:] == (
        '2026-01-01 to 2026-03-03',
        'abc, def',
        'backbones_cpu.csv',
        '2',
    )
    assert CPU['cpu'] in folded.cells
