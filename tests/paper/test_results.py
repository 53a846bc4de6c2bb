"""Reading results, and which rows may be compared."""

import pytest
from report_rows import COMMON, CPU, g1

from mmdet_shufflenetv2.cli.update_readme import generated
from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.paper.claims import REUSE_NETWORK, claim_rows
from mmdet_shufflenetv2.paper.docs_tables import coco_map
from mmdet_shufflenetv2.paper.results import newest_complete, read_results


def choose(results, wanted=()):
    """The ratios of the chosen rows, by scale."""
    rows = results.measured
    found = newest_complete(rows, lambda each: each.row['scale'], wanted)
    return {scale: each.ratio[0] for scale, each in found.items()}


def test_the_newest_complete_setting_counts_and_never_a_mixture(
    write, results
):
    scales = ('x1', 'x2', 'x4')
    old = [g1('1:12', 1.5, scale) for scale in scales]
    new = [g1('1:12', 2.5, scale, torch='2.15.0') for scale in scales[:2]]
    write('guidelines', *new, *old)
    assert choose(results()) == dict.fromkeys(scales, '1.5')
    # A missing key that is not wanted does not make a setting incomplete.
    assert choose(results(), ['x1']) == dict.fromkeys(scales, '1.5')
    write('guidelines', *(row | dict(date='2026-02-02') for row in new))
    assert choose(results(), ['x1', 'x2']) == dict.fromkeys(scales[:2], '2.5')
    # Without a complete setting, the fullest counts.
    assert choose(results(), ['x1', 'x4', 'x8']) == choose(results())


def test_bad_files_are_named_and_the_others_are_read(
    root, folder, write, results
):
    write('guidelines', g1('1:12', 1.5))
    (folder / 'ops_cpu.csv').write_text('schema,op\n1,x\n')
    write('backbones_old.csv', {**COMMON, **CPU, 'network': 'x'})
    (folder / 'binary.csv').write_bytes(b'\xff\xfe\x00\x01')
    (folder / 'folder.csv').mkdir()
    (folder / 'empty.csv').touch()
    (folder / 'deploy_memory.csv').write_text('images\n50\n')
    assert len(results().measured) == 1
    old, binary, is_folder, ops = results().problems
    assert 'backbones_old.csv has no column table' in old
    assert 'binary.csv cannot be read' in binary
    assert 'folder.csv cannot be read' in is_folder
    assert 'ops_cpu.csv has no column median_ms' in ops
    # Generated files need all results.
    with pytest.raises(UserError, match='cannot be read'):
        generated(root, folder)
    with pytest.raises(UserError, match=r'no folder .*--results'):
        read_results(folder / 'absent')


@pytest.mark.parametrize(
    'column, value',
    [
        ('median_ms', 'fast'),
        ('median_ms', ''),
        ('time_ratio_p10', ''),
        ('time_ratio', '0'),
        ('time_ratio', 'nan'),
        ('median_ms', 'inf'),
        ('batch', 'two'),
        ('schema', '99'),
        ('memory_access_ratio', 'x'),
    ],
)
def test_a_bad_value_leaves_out_only_its_row(write, results, column, value):
    good = g1('1:12', 1.5, schema='1')
    write('guidelines', good, good | {column: value})
    assert len(results().measured) == 1
    (problem,) = results().problems
    assert f'guidelines_cpu.csv, record 2 is left out: {column}' in problem
    assert value in problem


REUSE = dict(network=REUSE_NETWORK, value='58', expected='58.0')
TRAINED = dict(data='COCO', config='lighthead_shufflenetv2', mAP='0.3')


@pytest.mark.parametrize(
    'name, row, column',
    [
        ('feature_reuse', REUSE, 'value'),
        ('feature_reuse', REUSE, 'expected'),
        ('trained', TRAINED, 'mAP'),
    ],
)
def test_other_files_are_checked_before_they_are_read_by_name(
    folder, write, results, name, row, column
):
    write(f'{name}.csv', row, row | {column: 'x'}, row | {column: ''})
    assert len(results().table(name)) == 2
    (problem,) = results().problems
    assert f'{name}.csv, record 2 is left out: {column}' in problem
    # An empty cell was not measured.
    assert claim_rows(results())
    assert coco_map(results())
    (folder / f'{name}.csv').write_text('epochs\n12\n')
    (problem,) = results().problems
    assert column in problem.partition('has no column')[2]
    assert results().table(name) == []


def test_rows_without_a_reference_and_failed_rows_are_kept(write, results):
    row = g1('1:12', 1.5)
    blank = {key: '' for key in row if key.startswith('time_ratio')}
    failed = dict(median_ms='', status='does not fit in memory')
    write('guidelines', row | blank, row | blank | failed)
    assert results().problems == []
    assert len(results().measured) == 2


def test_an_incomplete_line_does_not_affect_others(folder, write, results):
    write('guidelines', g1('1:12', 1.5))
    path = folder / 'guidelines_cpu.csv'
    header, row = path.read_text().splitlines()
    path.write_text('\n'.join((header, row[:9] + '"x', header, row, '')))
    assert len(results().measured) == 1
    (problem,) = results().problems
    assert 'record 1 is left out' in problem
