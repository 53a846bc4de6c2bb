"""The page's tables and charts, and the page as text."""

import re

import pytest
from report_rows import CPU, GPU, detector, g1, network

pytest.importorskip('plotly', reason='needs plotly: pip install .[report]')

from mmdet_shufflenetv2.paper.claims import NOT_MEASURED
from mmdet_shufflenetv2.paper.figure1 import FAMILIES, charts
from mmdet_shufflenetv2.paper.page import make_page
from mmdet_shufflenetv2.paper.page_tables import (
    NONE,
    PAPER_TABLES,
    page_tables,
)
from mmdet_shufflenetv2.paper.published import speeds, values


@pytest.fixture
def table(files):
    """One of the page's tables of what is in the folder."""
    return lambda name: next(
        each for each in page_tables(files()) if each.name == name
    )


def lines(table, *words):
    """The rows that have these cells, as dicts of their last-named cells."""
    titles = [column.title for column in table.columns]
    return [
        dict(zip(titles, line.cells, strict=True)) | dict(cells=line.cells)
        for line in table.lines
        if set(words) <= set(line.cells)
    ]


def test_what_nobody_measured_is_listed_once_for_each_platform(files, table):
    for each in page_tables(files()):
        for line in each.lines:
            assert len(line.cells) == len(each.columns)
            assert NOT_MEASURED in line.cells
            assert not line.machine
    shown = sum(len(table(about.name).lines) for about in PAPER_TABLES)
    assert shown == len(speeds())
    assert table('ops').note == 'Not measured: python tools/benchmark.py ops'


def test_measured_row_stands_beside_the_papers(write, table):
    # 0.5 ms are 2000 batches a second; the paper has 57.6 and 1.323.
    write('guidelines', g1('1:12', 1.5, median_ms='0.5'))
    (found,) = lines(table('g1'), 'Core X')
    assert found['cells'][:11] == (
        'x1',
        '1:12',
        '56x56',
        '1',
        '57.6',
        '2000',
        '34.7',
        '1.323',
        '1.5',
        '1.35 to 1.65',
        '1.13',
    )
    # What of the table was not measured follows.
    assert len(table('g1').lines) == 24


def test_each_machine_and_setting_has_its_own_rows(write, table):
    row = network('xception_x2_0', 0.9)
    write('backbones', row, row | dict(threads='2'), row | dict(torch='2.15'))
    write('backbones', row, where=GPU, name='backbones_cuda')
    found = [e for e in table('table8').lines if '0.9' in e.cells]
    setting = 'fp32, folded, channels_last'
    assert {(e.machine, e.setting) for e in found} == {
        ('Core X', f'{setting}, 1 thread, PyTorch 2.14.1'),
        ('Core X', f'{setting}, 2 threads, PyTorch 2.14.1'),
        ('Core X', f'{setting}, 1 thread, PyTorch 2.15'),
        ('Card Y', f'{setting}, PyTorch 2.14.1'),
    }


@pytest.mark.parametrize(
    'later, shown',
    [
        (dict(speed_ratio='0.8'), '0.8'),
        (dict(speed_ratio='0.8', warning='--quick'), '0.9'),
        (dict(status='failed: x', speed_ratio=''), '0.9'),
    ],
)
def test_only_a_measurement_replaces_a_measurement(write, table, later, shown):
    row = network('xception_x2_0', 0.9)
    write('backbones', row, row | dict(date='2026-02-02') | later)
    (found,) = lines(table('table8'), 'Core X')
    assert shown in found['cells']


def test_failure_and_try_are_told_where_nothing_was_measured(write, table):
    failed = dict(status='does not fit in memory', speed_ratio='')
    write('backbones', network('xception_x2_0', 0.9) | failed)
    (found,) = lines(table('table8'), 'Core X')
    assert 'does not fit in memory' in found['cells']
    write('backbones', network('xception_x2_0', 0.7, warning='--quick'))
    (found,) = lines(table('table8'), 'Core X')
    assert found['warning'] == '--quick'
    assert '0.7' in found['cells']


def test_network_of_no_table_is_in_none(write, table):
    other = network('shufflenet_v1_x1_0_g8', 0.9, table='', column='')
    blank = {key: '' for key in other if key.startswith('speed_ratio')}
    write('backbones', other | blank)
    assert lines(table('table8'), 'shufflenet_v1_x1_0_g8') == []


def test_detectors_on_a_cpu_have_the_gpus_ratio_but_not_its_speed(
    write, table
):
    config = 'lighthead_xception_x0_5'
    write('detectors', detector(config, 1.0, '40M', median_ms='400'))
    (found,) = lines(table('table7'), 'Core X')
    cells = ('network', '600x400', '4', NONE, '10', NONE, f'{178 / 188:.4g}')
    assert found['cells'][2:9] == cells


def test_accuracy_is_that_of_trainings_on_coco(write, table):
    row = dict(data='COCO', config='lighthead_shufflenetv2', mAP='0.2')
    write.plain('trained.csv', row | dict(data='BCCD', mAP='0.9'), row)
    (found,) = lines(table('table7-mmap'), row['config'])
    assert found['cells'][2:5] == ('29', '20.0', '0.69')
    assert len(lines(table('table7-mmap'), NOT_MEASURED)) == 20


def test_environment_tells_machine_dates_and_commits(write, table):
    write('guidelines', g1('1:12', 1.5), g1('1:12', 1.5, 'x2'))
    write('backbones', network('xception_x2_0', 1, date='2026-03-03'))
    write('backbones', network('xception_x2_0', 1, commit='def'))
    (found,) = lines(table('environment'), 'folded')
    assert found['cells'][-4:] == (
        '2026-01-01 to 2026-03-03',
        'abc, def',
        'backbones_cpu.csv',
        '2',
    )
    assert CPU['cpu'] in found['cells']


def test_charts_show_the_papers_setting_and_no_try(write, files):
    row = network('xception_x2_0', 1, median_ms='2')
    write('backbones', row, row | dict(median_ms='9', warning='--quick'))
    write('backbones', row | dict(median_ms='7', batch='8'))
    for chart in charts(files()):
        measured = [line for line in chart.figure.data if line.meta['machine']]
        assert chart.is_measured == bool(measured) == (chart.name[-1] in 'bd')
        for line in measured:
            (point,) = zip(line.x, line.y, strict=True)
            assert 500.0 in point


def test_every_network_of_table_8_belongs_to_one_family():
    for key in speeds():
        if key.table == 'Table 8':
            assert sum(key.row.startswith(each) for each in FAMILIES) == 1
            assert key.row in values('top-1 error')


def test_page_is_whole_and_needs_no_other_file(folder, write):
    name = '</script><b onclick=a()>'
    write('backbones', network('xception_x2_0', 0.876, cpu=name))
    (folder / 'ops_cpu.csv').write_text('schema,op\n99,x\n')
    page, (problem,) = make_page(folder)
    assert 'ops_cpu.csv has no column' in problem
    assert problem in page
    assert '0.876' in page
    assert page.count('not measured, published only') == 2
    # A name is text, not markup.
    assert name not in page
    body = page[page.index('<body>') :]
    assert not re.search(r'(src|href)="(?!#|https://arxiv.org)', body)


def test_committed_results_are_shown_without_a_problem(root):
    page, problems = make_page(root / 'results')
    assert problems == []
    assert 'Trainings' in page
