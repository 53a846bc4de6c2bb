"""Reading results, and which rows may stand beside each other."""

import pytest
from report_rows import CPU, g1

from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.paper.results import (
    KINDS,
    conditions_of,
    is_measured,
    newest_complete,
    read_results,
    rows_of,
    whole_results,
)


def only(files, name):
    (found,) = (file for file in files if file.path.name == name)
    return found


def choose(rows, wanted=()):
    """The ratios of the chosen rows, by scale."""
    chosen = newest_complete(rows, lambda row: row['scale'], wanted)
    return {scale: row['time_ratio'] for scale, row in chosen.items()}


def test_one_later_row_of_another_setting_replaces_nothing(write, files):
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
    rows = rows_of(files(), 'guidelines')
    assert choose(rows) == {'x1': '1.5', 'x2': '1.5', 'x4': '1.5'}


def test_of_complete_settings_the_newest_counts_and_never_a_mixture(
    write, files
):
    scales = ('x1', 'x2', 'x4')
    old = [g1('1:12', 1.5, scale) for scale in scales]
    new = [g1('1:12', 2.5, scale, torch='2.15.0') for scale in scales[:2]]
    write('guidelines', *new, *old)
    rows = rows_of(files(), 'guidelines')
    assert choose(rows) == dict.fromkeys(scales, '1.5')
    # What nobody asks for makes no setting less complete.
    assert choose(rows, ['x1']) == dict.fromkeys(scales, '1.5')
    later = [row | dict(date='2026-02-02') for row in new]
    write('guidelines', *later)
    rows = rows_of(files(), 'guidelines')
    assert choose(rows, ['x1', 'x2']) == dict.fromkeys(scales[:2], '2.5')


def test_without_a_complete_setting_the_fullest_counts(write, files):
    write(
        'guidelines',
        g1('1:12', 1.5, 'x1'),
        g1('1:12', 1.6, 'x1'),
        g1('1:12', 1.5, 'x2'),
        g1('1:12', 2.5, 'x1', threads='2'),
    )
    rows = rows_of(files(), 'guidelines')
    assert choose(rows, ['x1', 'x2', 'x4']) == {'x1': '1.6', 'x2': '1.5'}
    assert newest_complete([], conditions_of) == {}


@pytest.mark.parametrize('column', ['warning', 'doubt'])
def test_a_try_or_a_failure_is_no_measurement(column):
    row = {'status': 'ok', column: '--quick, times spread 30%'}
    assert not is_measured(row)
    assert is_measured(row | {column: 'times spread 30%'})
    assert not is_measured(row | {column: '', 'status': 'failed: x'})


def test_kind_is_told_by_the_name_of_the_file(root):
    kinds = {
        file.path.stem: file.kind for file in read_results(root / 'results')
    }
    measured = KINDS.keys() - {'deploy'}
    assert {kinds[f'{kind}_cpu'] for kind in measured} == measured
    assert kinds['trained'] is kinds['bccd_backbones'] is None


@pytest.mark.parametrize(
    'content, words',
    [
        (b'schema,op\n1,x\n', 'has no column passes'),
        (b'\xff\xfe\x00\x01', 'cannot be read'),
    ],
)
def test_bad_file_is_named_and_the_others_are_read(
    folder, write, files, content, words
):
    write('guidelines', g1('1:12', 1.5))
    (folder / 'ops_cpu.csv').write_bytes(content)
    (folder / 'other.csv').mkdir()
    (folder / 'empty.csv').touch()
    (problem,) = only(files(), 'ops_cpu.csv').problems
    assert 'ops_cpu.csv' in problem
    if 'column' not in words:
        assert words in problem
    assert 'other.csv cannot be read' in only(files(), 'other.csv').problems[0]
    assert only(files(), 'empty.csv').problems == []
    assert len(only(files(), 'guidelines_cpu.csv').rows) == 1


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
def test_bad_value_leaves_out_its_row_only(write, files, column, value):
    good = g1('1:12', 1.5, schema='1')
    write('guidelines', good, good | {column: value})
    file = only(files(), 'guidelines_cpu.csv')
    assert len(file.rows) == 1
    (problem,) = file.problems
    assert 'guidelines_cpu.csv, record 2 is left out' in problem
    assert column in problem
    assert value in problem


def test_row_without_a_reference_and_failed_row_are_whole(write, files):
    row = g1('1:12', 1.5)
    blank = {key: '' for key in row if key.startswith('time_ratio')}
    failed = dict(median_ms='', status='does not fit in memory')
    write('guidelines', row | blank, row | blank | failed)
    file = only(files(), 'guidelines_cpu.csv')
    assert file.problems == []
    assert len(file.rows) == 2


def test_line_that_was_cut_short_spoils_no_other(folder, write, files):
    path = write('guidelines', g1('1:12', 1.5))
    header, row = path.read_text().splitlines()
    path.write_text('\n'.join((header, row[:9] + '"x', header, row, '')))
    file = only(files(), 'guidelines_cpu.csv')
    assert len(file.rows) == 1
    (problem,) = file.problems
    assert 'record 1 is left out' in problem


def test_what_is_generated_from_results_needs_all_of_them(folder, write):
    write('guidelines', g1('1:12', 1.5) | dict(median_ms='x'))
    with pytest.raises(UserError, match='record 1 is left out'):
        whole_results(folder)
    with pytest.raises(UserError, match=r'no folder .*--results'):
        read_results(folder / 'absent')


def test_setting_is_told_in_words():
    row = dict(precision='fp32', mode='folded', layout='channels_last')
    conditions = conditions_of({**CPU, **row, 'torch': '2.15.0+cu132'})
    assert conditions.machine == 'Core X'
    assert conditions.setting == (
        'fp32, folded, channels_last, 1 thread, PyTorch 2.15.0'
    )
