import errno
import os
from pathlib import Path

import pytest

from mmdet_shufflenetv2.measure.records import Records, RecordsError


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'new' / 'ops.csv'


def test_rows_are_appended_under_one_header_and_found_again(path):
    assert Records(path, ['op', 'ms']).rows == []
    assert not path.parent.exists()
    Records(path, ['op', 'ms']).append([{'op': 'a, b', 'ms': 1.5}])
    records = Records(path, ['op', 'ms'])
    records.append([{'ms': 2, 'op': 'two\nlines'}, {'op': 1}])
    assert (
        path.read_text() == 'schema,op,ms\n1,"a, b",1.5\n1,two lines,2\n1,1,\n'
    )
    for each in records, Records(path, ['op', 'ms']):
        assert [row['ms'] for row in each.find({'op': 'a, b'})] == ['1.5']
        assert [row['ms'] for row in each.find({'op': 1})] == ['']
        assert each.find({'op': 1, 'ms': 2}) == []


@pytest.mark.parametrize(
    'data, words',
    [
        (b'schema,op,ms,new\n1,a,1,\n2,b,2,x\n', r'newer version.*schema 2'),
        (b'op,ms\na,1\n', 'expected columns schema, op, ms, got op, ms;'),
        (b'\n1,a\n', 'got none'),
        (b'\xff\xfe\x00\x01', 'is not a CSV file'),
    ],
    ids=['newer', 'other columns', 'no header', 'no text'],
)
def test_a_file_of_another_kind_is_rejected_and_kept(path, data, words):
    records = Records(path, ['op', 'ms'])
    path.parent.mkdir()
    path.write_bytes(data)
    for refused in (
        lambda: Records(path, ['op', 'ms']),
        # The file may have appeared after this run started.
        lambda: records.append([{'op': 'b', 'ms': 2}]),
    ):
        with pytest.raises(RecordsError, match=words):
            refused()
        assert path.read_bytes() == data


@pytest.mark.parametrize('torn', ['1,b', '1,"b, c', '1,"b", "', '1,b,2,'])
def test_an_incomplete_row_is_removed_by_the_next_write(path, torn):
    columns = ['op', 'ms', 'warning']
    Records(path, columns).append([{'op': 'a', 'ms': 1, 'warning': 'x, y'}])
    whole = path.read_text()
    path.write_text(whole + torn)
    again = Records(path, columns)
    assert len(again.rows) == 1
    assert path.read_text() == whole + torn
    again.append([{'op': 'b', 'ms': 2}])
    assert path.read_text() == f'{whole}1,b,2,\n'


@pytest.mark.parametrize(
    'text, found',
    [
        ('schema,op', []),
        ('schema,op\n1,a\n1\n1,"b\n\n1,c\n', ['a', 'b', 'c']),
        # Two commands that created the file at once both wrote a header.
        ('schema,op\n1,a\nschema,op\n1,b\n', ['a', 'b']),
        ('\ufeffschema,op\r\n1,a\r\n', ['a']),
    ],
    ids=['cut header', 'bad lines', 'two headers', 'from a spreadsheet'],
)
def test_complete_rows_of_a_damaged_file_are_read(tmp_path, text, found):
    path = tmp_path / 'ops.csv'
    path.write_bytes(text.encode())
    Records(path, ['op']).append([{'op': 'new'}])
    rows = Records(path, ['op']).rows
    assert [row['op'] for row in rows] == [*found, 'new']


def test_columns_are_read_under_their_old_names(tmp_path):
    (tmp_path / 'ops.csv').write_text('schema,op,doubt\n1,a,wide\n')
    (row,) = Records(tmp_path / 'ops.csv', ['op', 'warning']).rows
    assert row['warning'] == 'wide'


@pytest.mark.parametrize('is_full', [False, True])
def test_rows_that_another_process_writes_meanwhile_are_kept(
    path, monkeypatch, is_full
):
    Records(path, ['op']).append([{'op': 'a'}])
    records, make_folder = Records(path, ['op']), Path.mkdir

    def write_other():
        monkeypatch.undo()
        Records(path, ['op']).append([{'op': 'other'}])

    def before(*args, **kwargs):
        write_other()
        make_folder(*args, **kwargs)

    def after(file):
        write_other()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if is_full:
        monkeypatch.setattr(os, 'fsync', after)
        with pytest.raises(RecordsError, match='No space left'):
            records.append([{'op': 'b'}])
    else:
        monkeypatch.setattr(Path, 'mkdir', before)
        records.append([{'op': 'b'}])
    assert 'other' in [row['op'] for row in Records(path, ['op']).rows]


def test_a_full_disk_leaves_the_file_unchanged(path, monkeypatch):
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


def test_no_rows_are_called_intact_in_a_file_that_is_not_there(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(RecordsError, match=r'cannot be written: [\w ]+$'):
        Records(tmp_path / 'file' / 'x.csv', ['op']).append([])
