"""The page's tables and charts, and the page as text."""

import re

import pytest
from report_rows import GPU, detector, g1, network, op

pytest.importorskip('plotly', reason='needs plotly: pip install .[report]')

from mmdet_shufflenetv2.measure.published import speeds, values
from mmdet_shufflenetv2.paper.figure1 import FAMILIES, charts
from mmdet_shufflenetv2.paper.page import make_page, page_tables


@pytest.fixture
def table(results):
    """The rows of a table of the page that contain a text."""

    def table(name, word):
        rows = page_tables(results())[name]
        return [row for row in rows if word in row.values()]

    return table


def test_unmeasured_figures_are_listed_once_per_platform(results):
    tables = page_tables(results()).values()
    rows = [row for table in tables for row in table if 'ms' in row]
    assert len(rows) == len(speeds())
    for row in rows:
        assert row['here'] == 'not measured'
        assert row['device'] in ('GPU: not measured', 'CPU: not measured')


def test_measured_row_is_shown_beside_the_papers(write, table):
    # 0.5 ms are 2000 batches a second; the paper has 57.6 and 1.323.
    write('guidelines', g1('1:12', 1.5, median_ms='0.5'))
    (row,) = table('g1', 'Core X')
    published = {'paper': '57.6', 'paper ratio': '1.323'}
    here = {'here': '2000', 'here ratio': '1.5', 'p10 to p90': '1.35 to 1.65'}
    compared = {'here / paper': '34.7', 'here ratio / paper': '1.13'}
    assert (published | here | compared).items() <= row.items()
    assert (row['device'], row['setting']) == (
        'Core X',
        'fp32, eager, channels_last, 1 thread, PyTorch 2.14.1',
    )
    # The unmeasured rows of the table follow.
    assert len(table('g1', '-')) == 23
    # So is one of channels that are not the paper's.
    write('guidelines', g1('1:12', 1.5, platform='x'))
    assert [row['paper'] for row in table('g1', 'Core X')] == ['57.6', '-']


@pytest.mark.parametrize(
    'rows, shown',
    [
        ([dict(), dict(speed_ratio='0.8')], '0.8'),
        ([dict(), dict(speed_ratio='0.8', warning='--quick')], '0.9'),
        ([dict(), dict(status='failed: x', speed_ratio='')], '0.9'),
        ([dict(status='failed: x')], '-'),
        ([dict(status='failed: x'), dict(warning='--quick')], '0.9'),
    ],
)
def test_a_measurement_beats_a_trial_and_a_trial_beats_a_failure(
    write, table, rows, shown
):
    write('backbones', *(network('xception_x2_0', 0.9) | row for row in rows))
    write('backbones', network('xception_x2_0', 0.9), where=GPU)
    (found,) = table('table8', 'Core X')
    assert found['here ratio'] == shown
    assert (found['here'] == 'failed: x') == (shown == '-')


def test_rows_in_no_table_of_the_paper_get_a_table_of_their_own(write, table):
    name, blank = 'shufflenet_v1_x1_0_g8', dict(table='', column='')
    blank |= dict(speed_ratio='', speed_ratio_p10='', speed_ratio_p90='')
    write('backbones', network(name, 0.9, **blank))
    write('ops', op('ps_roi_align', 2.0, status='failed: x', median_ms=''))
    assert table('table8', name) == []
    ((other,), (align,)) = table('backbones', name), table('ops', 'Core X')
    assert (other['network'], other['device']) == (name, 'Core X')
    assert align['median_ms'] == 'failed: x'


def test_detectors_on_a_cpu_have_the_gpus_ratio_but_not_its_speed(
    write, table
):
    row = detector('lighthead_xception_x0_5', 1.0, '40M', median_ms='400')
    write('detectors', row, row | dict(part='training step'))
    found, step = table('table7', 'Core X')
    assert (found['paper'], found['here']) == ('-', '10')
    assert found['paper ratio'] == f'{178 / 188:.4g}'
    # The paper has no speed for a training step.
    assert step['paper ratio'] == '-'


def test_environment_lists_machine_dates_and_commits(write, table):
    row = network('xception_x2_0', 1, date='2026-03-03')
    write('backbones', row, row | dict(commit='def', date='2026-01-01'))
    (found,) = table('environment', 'Core X')
    assert found['date'] == '2026-01-01 to 2026-03-03'
    assert found['commit'] == 'def, abc'


def test_charts_show_only_the_papers_setting_and_no_trials(write, results):
    row = network('xception_x2_0', 1, median_ms='2')
    write('backbones', row, row | dict(median_ms='9', warning='--quick'))
    write('backbones', row | dict(median_ms='7', batch='8'))
    for chart in charts(results()):
        measured = [line for line in chart.figure.data if line.meta['device']]
        assert chart.is_measured == bool(measured) == (chart.name[-1] in 'bd')
        for line in measured:
            (point,) = zip(line.x, line.y, strict=True)
            assert 500.0 in point
    for key in speeds():
        if key.table == 'Table 8':
            assert sum(key.row.startswith(each) for each in FAMILIES) == 1
            assert key.row in values('top-1 error')


def test_page_is_complete_and_self_contained(root, folder, write):
    name = '</script><b onclick=a()>'
    write('backbones', network('xception_x2_0', 0.876, cpu=name))
    (folder / 'ops_cpu.csv').write_text('schema,op\n99,x\n')
    page, (problem,) = make_page(folder)
    assert problem in page
    assert '0.876' in page
    assert page.count('not measured, published only') == 2
    assert 'Not measured: tools/benchmark.py shuffle' in page
    # A name is text, not markup.
    assert name not in page
    body = page[page.index('<body>') :]
    assert not re.search(r'(src|href)="(?!#|https://arxiv.org)', body)
    assert make_page(root / 'results')[1] == []
