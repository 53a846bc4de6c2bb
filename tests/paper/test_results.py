"""Reading results, and which rows may stand beside each other."""

import pytest
from report_rows import g1

from mmdet_shufflenetv2.cli.update_readme import generated
from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.paper.results import (
    kind_of,
    newest_complete,
    read_results,
)


def choose(results, wanted=()):
    """The ratios of the chosen rows, by scale."""
    found = newest_complete(
        results.measured, lambda each: each.row['scale'], wanted
    )
    return {scale: each.ratio[0] for scale, each in found.items()}


def test_one_later_row_of_another_setting_replaces_nothing(write, results):
    whole = [g1('1:12', 1.5, scale) for scale in ('x1', 'x2', 'x4')]
    write('guidelines', *whole)
    for change in (
        dict(threads='2'),
        dict(torch='2.15.0'),
        dict(cpu='Core Z'),
        dict(layout='contiguous'),
        dict(clock='cpu'),
    ):
        write('guidelines', g1('1:12', 9.9, date='2026-02-02') | change)
    assert choose(results()) == {'x1': '1.5', 'x2': '1.5', 'x4': '1.5'}


def test_of_complete_settings_the_newest_counts_and_never_a_mixture(
    write, results
):
    scales = ('x1', 'x2', 'x4')
    old = [g1('1:12', 1.5, scale) for scale in scales]
    new = [g1('1:12', 2.5, scale, torch='2.15.0') for scale in scales[:2]]
    write('guidelines', *new, *old)
    assert choose(results()) == dict.fromkeys(scales, '1.5')
    # What nobody asks for makes no setting less complete.
    assert choose(results(), ['x1']) == dict.fromkeys(scales, '1.5')
    write('guidelines', *(row | dict(date='2026-02-02') for row in new))
    assert choose(results(), ['x1', 'x2']) == dict.fromkeys(scales[:2], '2.5')


def test_without_a_complete_setting_the_fullest_counts(write, results):
    write(
        'guidelines',
        g1('1:12', 1.5, 'x1'),
        g1('1:12', 1.6, 'x1'),
        g1('1:12', 1.5, 'x2'),
        g1('1:12', 2.5, 'x1', threads='2'),
    )
    found = choose(results(), ['x1', 'x2', 'x4'])
    assert found == {'x1': '1.6', 'x2': '1.5'}


@pytest.mark.parametrize('column', ['warning', 'doubt'])
@pytest.mark.parametrize(
    'warning, status, expected',
    [
        ('times spread 30%', 'ok', True),
        ('--quick, times spread 30%', 'ok', False),
        ('', 'failed: x', False),
    ],
)
def test_a_try_or_a_failure_is_no_measurement(
    write, results, column, warning, status, expected
):
    row = g1('1:12', 1.5, status=status) | {'warning': '', column: warning}
    write('guidelines', row)
    assert bool(results().sound('guidelines')) == expected


def test_kind_is_told_by_the_name_of_the_file():
    assert kind_of('ops') == kind_of('ops_cpu') == 'ops'
    for name in ('trained', 'bccd_backbones', 'opsy', 'deploy_memory'):
        assert kind_of(name) is None


def test_bad_files_are_named_and_the_others_are_read(folder, write, results):
    write('guidelines', g1('1:12', 1.5))
    (folder / 'ops_cpu.csv').write_text('schema,op\n1,x\n')
    (folder / 'binary.csv').write_bytes(b'\xff\xfe\x00\x01')
    (folder / 'folder.csv').mkdir()
    (folder / 'empty.csv').touch()
    assert len(results().measured) == 1
    binary, is_folder, ops = results().problems
    assert 'binary.csv cannot be read' in binary
    assert 'folder.csv cannot be read' in is_folder
    assert 'ops_cpu.csv has no column map, rois' in ops


@pytest.mark.parametrize(
    'column, value',
    [
        ('median_ms', 'fast'),
        ('median_ms', ''),
        ('time_ratio_p10', ''),
        ('time_ratio', '0'),
        ('time_ratio', 'nan'),
        ('median_ms', 'inf'),
        ('batch', '1.5'),
        ('schema', '99'),
    ],
)
def test_bad_value_leaves_out_its_row_only(write, results, column, value):
    good = g1('1:12', 1.5, schema='1')
    write('guidelines', good, good | {column: value})
    assert len(results().measured) == 1
    (problem,) = results().problems
    assert 'guidelines_cpu.csv, record 2 is left out' in problem
    assert column in problem
    assert value in problem


def test_row_without_a_reference_and_failed_row_are_whole(write, results):
    row = g1('1:12', 1.5)
    blank = {key: '' for key in row if key.startswith('time_ratio')}
    failed = dict(median_ms='', status='does not fit in memory')
    write('guidelines', row | blank, row | blank | failed)
    assert results().problems == []
    assert len(results().measured) == 2


def test_line_that_was_cut_short_spoils_no_other(write, results):
    path = write('guidelines', g1('1:12', 1.5))
    header, row = path.read_text().splitlines()
    path.write_text('\n'.join((header, row[:9] + '"x', header, row, '')))
    assert len(results().measured) == 1
    (problem,) = results().problems
    assert 'record 1 is left out' in problem


def test_what_is_generated_from_results_needs_all_of_them(root, folder, write):
    write('guidelines', g1('1:12', 1.5) | dict(median_ms='x'))
    with pytest.raises(UserError, match='record 1 is left out'):
        generated(root, folder)
    with pytest.raises(UserError, match=r'no folder .*--results'):
        read_results(folder / 'absent')


def test_setting_is_told_in_words(write, results):
    write('guidelines', g1('1:12', 1.5, mode='folded', torch='2.15.0+cu132'))
    ((_, _, _, conditions, *_),) = results().measured
    assert conditions.machine == 'Core X'
    assert conditions.setting == (
        'fp32, folded, channels_last, 1 thread, PyTorch 2.15.0'
    )
