import pytest

from mmdet_shufflenetv2.benchmark.records import (
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


def test_other_columns_are_refused_and_the_file_kept(path):
    message = refused(path, b'op,ms\na,1\n')
    assert 'its columns are op, ms' in message


def test_what_is_no_text_is_refused_and_kept(path):
    assert 'is no CSV file' in refused(path, b'\xff\xfe\x00\x01')


def test_a_file_that_became_newer_meanwhile_is_not_touched(path):
    records = Records(path, ['op', 'ms'])
    records.append([{'op': 'a', 'ms': 1}])
    newer = f'schema,op,ms\n{SCHEMA + 1},z,1\n'
    path.write_text(newer)
    with pytest.raises(RecordsError, match='newer version'):
        records.append([{'op': 'b', 'ms': 2}])
    assert path.read_text() == newer


def test_a_row_that_was_cut_short_stays_and_does_not_count(path):
    records = Records(path, ['op', 'ms'])
    records.append([{'op': 'a', 'ms': 1}])
    with path.open('a') as file:
        file.write('1,b')
    before = path.read_text()
    again = Records(path, ['op', 'ms'])
    assert again.find({'op': 'b'}) == []
    again.append([{'op': 'b', 'ms': 2}])
    assert path.read_text() == before + '\n1,b,2\n'
    found = Records(path, ['op', 'ms'])
    assert [row['op'] for row in found.rows] == ['a', 'b']


def test_rows_of_other_columns_are_refused(path):
    records = Records(path, ['op', 'ms'])
    with pytest.raises(ValueError, match='rows: all must have'):
        records.append([{'op': 'a', 'ms': 1}, {'op': 'a'}])
    assert not path.exists()
