import pytest

from mmdet_shufflenetv2.benchmark.records import append_rows


def test_rows_are_appended_under_one_header(tmp_path):
    path = tmp_path / 'new' / 'ops.csv'
    append_rows(path, [{'op': 'a, b', 'ms': 1.5}])
    append_rows(path, [{'op': 'c', 'ms': 2}, {'op': 'd', 'ms': 3}])
    assert path.read_text() == 'op,ms\n"a, b",1.5\nc,2\nd,3\n'


def test_no_rows_leave_no_file(tmp_path):
    append_rows(tmp_path / 'ops.csv', [])
    assert not (tmp_path / 'ops.csv').exists()


def test_other_columns_are_refused_and_the_file_kept(tmp_path):
    path = tmp_path / 'ops.csv'
    append_rows(path, [{'op': 'a', 'ms': 1}])
    with pytest.raises(ValueError, match='its columns are'):
        append_rows(path, [{'op': 'a', 'seconds': 1}])
    with pytest.raises(ValueError, match='rows: '):
        append_rows(path, [{'op': 'a', 'ms': 1}, {'op': 'a'}])
    assert path.read_text() == 'op,ms\na,1\n'
