import errno
import os

import pytest

from mmdet_shufflenetv2.measure.records import (
    SCHEMA,
    Records,
    RecordsError,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'new' / 'ops.csv'


def test_rows_are_appended_under_one_header(path):
    Records(path, ['op', 'ms']).append([{'op': 'a, b', 'ms': 1.5}])
    Records(path, ['op', 'ms']).append(
        [{'ms': 2, 'op': 'c'}, dict(op=1, ms=3)]
    )
    assert path.read_text() == ('schema,op,ms\n1,"a, b",1.5\n1,c,2\n1,1,3\n')


def test_what_was_written_is_found_again_by_other_runs(path):
    written = Records(path, ['op', 'ms'])
    written.append([{'op': 'a', 'ms': 1}, {'op': 'b', 'ms': 2.5}])
    for records in written, Records(path, ['op', 'ms']):
        assert [row['ms'] for row in records.find({'op': 'b'})] == ['2.5']
        assert records.find({'op': 'b', 'ms': 1}) == []
        assert len(records.rows) == 2


def test_no_file_before_the_first_row(path):
    assert Records(path, ['op']).rows == []
    assert not path.exists()


def refused(path, text, columns=('op', 'ms')):
    """The message, after a look that the file is as it was."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    with pytest.raises(RecordsError) as caught:
        Records(path, columns)
    assert path.read_bytes() == text
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_newer_file_is_refused_and_kept(path):
    text = f'schema,op,ms,new\n{SCHEMA},a,1,\n{SCHEMA + 1},b,2,x\n'
    message = refused(path, text.encode())
    assert 'newer version' in message
    assert f'schema {SCHEMA + 1}' in message
    assert 'another file' in message
    assert 'schema 1.1' in refused(path, b'schema,op,ms\n1.1,a,1\n')


def test_other_columns_are_refused_and_the_file_kept(path):
    message = refused(path, b'op,ms\na,1\n')
    assert 'its columns are op, ms' in message


def test_what_is_no_text_is_refused_and_kept(path):
    assert 'is not a CSV file' in refused(path, b'\xff\xfe\x00\x01')


def test_a_file_that_became_newer_meanwhile_is_not_touched(path):
    records = Records(path, ['op', 'ms'])
    records.append([{'op': 'a', 'ms': 1}])
    newer = f'schema,op,ms\n{SCHEMA + 1},z,1\n'
    path.write_text(newer)
    with pytest.raises(RecordsError, match='newer version'):
        records.append([{'op': 'b', 'ms': 2}])
    assert path.read_text() == newer


@pytest.mark.parametrize(
    'torn', ['1,b', '1,"b, c', '1,"b", "', '1', '1,b,2,warn', '1,b,2,']
)
def test_a_row_that_was_cut_short_goes_with_the_next_one(path, torn):
    records = Records(path, ['op', 'ms', 'warning'])
    records.append([{'op': 'a', 'ms': 1, 'warning': 'x, y'}])
    whole = path.read_text()
    path.write_text(whole + torn)
    again = Records(path, ['op', 'ms', 'warning'])
    assert len(again.rows) == 1
    assert path.read_text() == whole + torn
    again.append([{'op': 'b', 'ms': 2, 'warning': ''}])
    assert path.read_text() == f'{whole}1,b,2,\n'


def test_a_header_that_was_cut_short_is_written_again(path):
    path.parent.mkdir()
    path.write_text('schema,op')
    Records(path, ['op']).append([{'op': 'a'}])
    assert path.read_text() == 'schema,op\n1,a\n'


def test_lines_that_are_not_whole_rows_are_left_out(path):
    path.parent.mkdir()
    path.write_text('schema,op\n1,a\n1\n1,"b\n\n1,c\n')
    rows = Records(path, ['op']).rows
    assert [row['op'] for row in rows] == ['a', 'b', 'c']


def test_columns_are_read_and_written_under_their_earlier_names(path):
    path.parent.mkdir()
    path.write_text('schema,op,doubt\n1,a,wide\n')
    records = Records(path, ['op', 'warning'])
    assert records.rows[0]['warning'] == 'wide'
    records.append([{'op': 'b', 'warning': ''}])
    assert path.read_text() == 'schema,op,doubt\n1,a,wide\n1,b,\n'


def test_a_file_that_two_commands_began_at_once_is_read(path):
    path.parent.mkdir()
    path.write_text('schema,op\n1,a\nschema,op\n1,b\n')
    assert [row['op'] for row in Records(path, ['op']).rows] == ['a', 'b']


def test_a_row_is_one_line_whatever_it_says(path):
    Records(path, ['op']).append([{'op': 'two\nlines'}])
    assert path.read_text() == 'schema,op\n1,two lines\n'


def test_a_file_that_a_spreadsheet_saved_is_read(path):
    path.parent.mkdir()
    path.write_bytes('\ufeffschema,op\r\n1,a\r\n'.encode())
    assert Records(path, ['op']).rows == [{'schema': '1', 'op': 'a'}]


def test_when_the_disk_is_full_the_file_is_as_it_was(path, monkeypatch):
    records = Records(path, ['op'])
    records.append([{'op': 'a'}])
    before = path.read_bytes()

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(RecordsError, match=r'No space left.*the 1 rows in it'):
        records.append([{'op': 'b'}])
    assert path.read_bytes() == before
    assert len(records.rows) == 1


def test_rows_of_other_columns_are_refused(path):
    records = Records(path, ['op', 'ms'])
    with pytest.raises(ValueError, match='rows: expected'):
        records.append([{'op': 'a', 'ms': 1}, {'op': 'a'}])
    assert not path.exists()
