import json

import pytest
from mmdet_shufflenetv2.data.coco_stream import (
    CocoWriter,
    DatasetError,
    iter_records,
)

from mmdet_shufflenetv2.data import coco_stream

CONTENT = {
    'info': {'year': 2014, 'ratio': 1.5e-3, 'empty': {}, 'none': None},
    'images': [{'id': i, 'file_name': f'ä"{i}\\.jpg'} for i in range(30)],
    'licenses': [1, 22, 333],
    'annotations': [{'id': i, 'bbox': [0.1, 2, -3e5, i]} for i in range(50)],
    'number': 12345678901234567890,
    'categories': [],
}


def read(path):
    content = {}
    for record in iter_records(path):
        if record.index < 0:
            content[record.section] = record.value
        else:
            rows = content.setdefault(record.section, [])
            assert record.index == len(rows)
            assert json.loads(record.text) == record.value
            rows.append(record.value)
    return content


@pytest.mark.parametrize('indent', [None, 3])
@pytest.mark.parametrize('chunk', [1, 2, 7, 64, 1 << 20])
def test_equals_json_load_at_any_chunk_size(
    tmp_path, monkeypatch, chunk, indent
):
    path = tmp_path / 'ann.json'
    text = json.dumps(CONTENT, indent=indent, ensure_ascii=False)
    path.write_text(text, encoding='utf-8')
    monkeypatch.setattr(coco_stream, '_CHUNK', chunk)
    expected = {**CONTENT}
    del expected['categories']  # An empty list yields no record.
    assert read(path) == expected


def test_text_of_a_record_is_unchanged(tmp_path):
    path = tmp_path / 'ann.json'
    path.write_text('{"annotations": [{"a":1.10,  "b": 2e0} , {}]}')
    texts = [record.text for record in iter_records(path)]
    assert texts == ['{"a":1.10,  "b": 2e0}', '{}']


def test_byte_order_mark_is_accepted(tmp_path):
    path = tmp_path / 'ann.json'
    path.write_text('{"images": [{"id": 1}]}', encoding='utf-8-sig')
    assert read(path) == {'images': [{'id': 1}]}


@pytest.mark.parametrize(
    'text, message',
    [
        ('', 'is empty'),
        ('[]', "expected '{' at the start, found '\\['"),
        ('{"images": {}}', "expected '\\[' at the start of 'images'"),
        ('{"images": [1]}', 'images\\[0\\] is not an object'),
        ('{"images": [{"id": 1}, {"id"', 'at character 23'),
        ('{"images": [{"id": 1}', 'found the end of the file at character 21'),
        ('{"images": [{"id": 1} {}]}', "expected ',' or ']' after images\\[0"),
        ('{"images": [], "images": []}', "second or odd entry named 'images'"),
        ('{"images": [], ', 'Expecting value'),
        ('{"images" []}', "expected ':' after 'images'"),
        ('{"x": ' + '[' * 100_000, 'nested too deeply'),
        ('not json at all', "expected '{'"),
    ],
)
def test_broken_file_is_named_with_the_place(tmp_path, text, message):
    path = tmp_path / 'ann.json'
    path.write_text(text)
    with pytest.raises(DatasetError, match=message) as error:
        list(iter_records(path))
    assert str(path) in str(error.value)


def test_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / 'ann.json'
    path.write_bytes(b'{"images": \xff\xfe')
    with pytest.raises(DatasetError, match='not UTF-8'):
        list(iter_records(path))


def test_absent_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r'nowhere\.json does not exist'):
        list(iter_records(tmp_path / 'nowhere.json'))


def test_written_file_is_read_again(tmp_path):
    path = tmp_path / 'new' / 'ann.json'
    with CocoWriter(path) as writer:
        # Sections in turn, as two source files give them.
        for round_ in range(3):
            writer.add('annotations', json.dumps({'id': round_}))
            writer.add('images', json.dumps({'id': 10 + round_}))
        writer.set_entry('info', '{"year": 2014}')
    assert json.loads(path.read_text()) == {
        'info': {'year': 2014},
        'images': [{'id': 10}, {'id': 11}, {'id': 12}],
        'annotations': [{'id': 0}, {'id': 1}, {'id': 2}],
        'categories': [],
    }
    assert [p.name for p in path.parent.iterdir()] == ['ann.json']


def test_error_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / 'ann.json'
    path.write_text('old')

    def write_half():
        with CocoWriter(path) as writer:
            writer.add('images', '{}')
            raise RuntimeError('stop')

    with pytest.raises(RuntimeError, match='stop'):
        write_half()
    assert path.read_text() == 'old'
    assert [p.name for p in tmp_path.iterdir()] == ['ann.json']
