"""The page's tables and charts, and the page as text."""

import re

import pytest
from report_rows import GPU, detector, g1, network, op

pytest.importorskip('plotly', reason='needs plotly: pip install .[report]')

from mmdet_shufflenetv2.paper.claims import NOT_MEASURED
from mmdet_shufflenetv2.paper.figure1 import FAMILIES, charts
from mmdet_shufflenetv2.paper.page import NONE, make_page, page_tables
from mmdet_shufflenetv2.paper.published import speeds, values


@pytest.fixture
def table(results):
    """The rows of one of the page's tables that have all of some texts."""

    def table(name, *words):
        rows = next(t.rows for t in page_tables(results()) if t.name == name)
        return [row for row in rows if set(words) <= set(row.values())]

    return table


def test_what_nobody_measured_is_listed_once_for_each_platform(results):
    tables = {table.name: table for table in page_tables(results())}
    rows = [row for t in tables.values() for row in t.rows if 'ms' in row]
    assert len(rows) == len(speeds())
    for row in rows:
        assert row['here'] == NOT_MEASURED
        assert row['device'] in ('GPU: not measured', 'CPU: not measured')
    assert tables['ops'].note == 'Not measured: tools/benchmark.py ops'


def test_measured_row_stands_beside_the_papers(write, table):
    # 0.5 ms are 2000 batches a second; the paper has 57.6 and 1.323.
    write('guidelines', g1('1:12', 1.5, median_ms='0.5'))
    (row,) = table('g1', 'Core X')
    assert row == {
        'column': 'x1',
        'row': '1:12',
        'input': '56x56',
        'batch': '1',
        'paper': '57.6',
        'here': '2000',
        'here / paper': '34.7',
        'paper ratio': '1.323',
        'here ratio': '1.5',
        'p10 to p90': '1.35 to 1.65',
        'here ratio / paper': '1.13',
        'ms': '0.5',
        'warning': '',
        'device': 'Core X',
        'setting': 'fp32, eager, channels_last, 1 thread, PyTorch 2.14.1',
    }
    # What of the table was not measured follows.
    assert len(table('g1')) == 24


def test_each_machine_and_setting_has_its_own_rows(write, table):
    row = network('xception_x2_0', 0.9)
    write('backbones', row, row | dict(threads='2'), row | dict(torch='2.15'))
    write('backbones', row, where=GPU, name='backbones_cuda')
    setting = 'fp32, folded, channels_last'
    found = table('table8', 'xception_x2_0', '0.9')
    assert {(row['device'], row['setting']) for row in found} == {
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
    (found,) = table('table8', 'Core X')
    assert found['here ratio'] == shown


def test_failure_and_try_are_told_where_nothing_was_measured(write, table):
    failed = dict(status='does not fit in memory', speed_ratio='')
    write('backbones', network('xception_x2_0', 0.9) | failed)
    (found,) = table('table8', 'Core X')
    assert found['here'] == 'does not fit in memory'
    write('backbones', network('xception_x2_0', 0.7, warning='--quick'))
    (found,) = table('table8', 'Core X')
    assert (found['here ratio'], found['warning']) == ('0.7', '--quick')


def test_what_is_in_no_table_of_the_paper_has_one_of_its_own(write, table):
    name, blank = 'shufflenet_v1_x1_0_g8', dict(table='', column='')
    blank |= dict(speed_ratio='', speed_ratio_p10='', speed_ratio_p90='')
    write('backbones', network(name, 0.9, **blank))
    write('ops', op('ps_roi_align', 2.0, status='failed: x', median_ms=''))
    assert table('table8', name) == []
    ((other,), (align,)) = table('backbones'), table('ops')
    assert (other['network'], other['device']) == (name, 'Core X')
    assert align['median_ms'] == 'failed: x'


def test_detectors_on_a_cpu_have_the_gpus_ratio_but_not_its_speed(
    write, table
):
    config = 'lighthead_xception_x0_5'
    write('detectors', detector(config, 1.0, '40M', median_ms='400'))
    write('detectors', detector(config, 1.0, '40M', part='training step'))
    found, step = table('table7', 'Core X')
    assert (found['paper'], found['here']) == (NONE, '10')
    assert found['paper ratio'] == f'{178 / 188:.4g}'
    # The paper has no speed of a training step.
    assert step['paper ratio'] == NONE


def test_accuracy_is_that_of_trainings_on_coco(write, table):
    row = dict(data='COCO', config='lighthead_shufflenetv2', mAP='0.2')
    write.plain('trained.csv', row | dict(data='BCCD', mAP='0.9'), row)
    (found,) = table('table7-mmap', row['config'])
    assert [*found.values()][2:] == ['29.0', '20.0', '0.69']
    assert len(table('table7-mmap', NOT_MEASURED)) == 19


def test_environment_tells_machine_dates_and_commits(write, table):
    write('backbones', network('xception_x2_0', 1, date='2026-03-03'))
    write('backbones', network('xception_x2_0', 1, commit='def'))
    (found,) = table('environment')
    assert [*found.values()][-4:] == [
        '2026-01-01 to 2026-03-03',
        'def, abc',
        'backbones_cpu.csv',
        '2',
    ]


def test_charts_show_the_papers_setting_and_no_try(write, results):
    row = network('xception_x2_0', 1, median_ms='2')
    write('backbones', row, row | dict(median_ms='9', warning='--quick'))
    write('backbones', row | dict(median_ms='7', batch='8'))
    for chart in charts(results()):
        measured = [line for line in chart.figure.data if line.meta['device']]
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
