import pytest
from report_rows import g1, network

from mmdet_shufflenetv2.engine.run_config import UsageError
from mmdet_shufflenetv2.measure.records import SCHEMA
from mmdet_shufflenetv2.measure.session import TRY
from mmdet_shufflenetv2.paper.results import read_results, whole_results


def only(folder, name):
    return next(f for f in read_results(folder) if f.path.name == name)


def test_files_are_told_by_the_command_that_names_them(folder, write):
    write('backbones', network('xception_x2_0', 1.1))
    write('guidelines', g1('1:12', 1.5), name='guidelines_cuda')
    (folder / 'bccd_backbones.csv').write_text('config,mAP\na,0.5\n')
    kinds = {f.path.stem: f.kind for f in read_results(folder)}
    assert kinds == {
        'backbones_cpu': 'backbones',
        'guidelines_cuda': 'guidelines',
        'bccd_backbones': None,
    }


@pytest.mark.parametrize(
    'content, words',
    [
        (f'schema,op\n{SCHEMA + 1},x\n'.encode(), 'a newer version'),
        (b'schema,op\n1,x\n', 'its columns are schema, op'),
        (b'\xff\xfe\x00\x01', 'is no CSV file'),
    ],
)
def test_bad_file_is_named_and_the_others_are_read(
    folder, write, content, words
):
    write('guidelines', g1('1:12', 1.5))
    (folder / 'ops_cpu.csv').write_bytes(content)
    bad = only(folder, 'ops_cpu.csv')
    (problem,) = bad.problems
    assert 'ops_cpu.csv' in problem
    assert words in problem
    assert '--out' not in problem
    assert len(only(folder, 'guidelines_cpu.csv').rows) == 1


@pytest.mark.parametrize(
    'column, value',
    [
        ('median_ms', 'fast'),
        ('time_ratio_p10', ''),
        ('time_ratio', '0'),
        ('time_ratio', 'nan'),
        ('median_ms', 'inf'),
        ('batch', '1.5'),
    ],
)
def test_bad_number_leaves_out_its_row_only(folder, write, column, value):
    write('guidelines', g1('1:12', 1.5), g1('1:12', 1.5) | {column: value})
    file = only(folder, 'guidelines_cpu.csv')
    assert len(file.rows) == 1
    (problem,) = file.problems
    assert 'guidelines_cpu.csv, record 2 is left out' in problem
    assert column in problem
    assert repr(value) in problem


def test_lines_that_were_cut_short_are_named(folder, write):
    path = write('guidelines', g1('1:12', 1.5))
    with path.open('a') as file:
        file.write('1,G1,"x')
    file = only(folder, 'guidelines_cpu.csv')
    assert len(file.rows) == 1
    assert file.problems == [f'{path}: lines cut short, left out: 1']


def test_a_try_counts_for_less_than_an_earlier_measurement(folder, write):
    tried = g1('1:12', 9.9) | {'doubt': TRY, 'date': '2999-01-01'}
    write('guidelines', tried, g1('1:12', 1.5))
    rows = whole_results(folder)['guidelines']
    assert [row['time_ratio'] for row in rows] == ['9.9', '1.5']


def test_failed_measurement_needs_no_numbers(folder, write):
    failed = dict(time_ratio='', median_ms='', status='does not fit')
    write('guidelines', g1('1:12', 1.5) | failed)
    file = only(folder, 'guidelines_cpu.csv')
    assert file.problems == []
    assert len(file.rows) == 1


def test_row_of_a_plain_table_with_other_columns_is_left_out(folder):
    (folder / 'trained.csv').write_text('data,mAP\na,0.5\nb\nc,1,2\n')
    file = only(folder, 'trained.csv')
    assert [row['data'] for row in file.rows] == ['a']
    assert len(file.problems) == 2


def test_folder_in_the_place_of_a_file_is_a_problem_of_it_alone(folder):
    (folder / 'other.csv').mkdir()
    (problem,) = only(folder, 'other.csv').problems
    assert 'other.csv cannot be read: Is a directory' in problem


def test_what_is_generated_from_results_needs_all_of_them(folder, write):
    write('guidelines', g1('1:12', 1.5) | dict(median_ms='x'))
    with pytest.raises(UsageError, match='record 1 is left out'):
        whole_results(folder)


def test_absent_folder_is_refused_with_the_option(tmp_path):
    with pytest.raises(UsageError, match=r'no folder .*--results'):
        read_results(tmp_path / 'absent')
