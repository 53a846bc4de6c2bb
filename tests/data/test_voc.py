"""Pascal VOC XML files in the variants of common tools.

Their layouts are in `test_layouts`.
"""

from pathlib import Path

import pytest
from coco_files import SIX, check_two_classes, read_test
from trees import XML, tree, voc

from mmdet_shufflenetv2.data.folders import find_data

BNDBOX = XML[XML.index('<bndbox>') : XML.index('</object>')]


@pytest.mark.parametrize('xml', ['pictures', 'xml'])
def test_equal_names_are_distinguished_by_their_folders(tmp_path, xml):
    for folder in 'one', 'two':
        tree(tmp_path, voc(f'pictures/{folder}/ab', f'{xml}/{folder}'))
    table = read_test(tmp_path)
    for file, record in zip(table.files, table.records, strict=True):
        assert Path(file).parent.name == Path(record).parent.name
    assert len(table) == 4


@pytest.mark.parametrize(
    'old, new',
    [
        ('40', '0'),
        ('<width>40</width>', ''),
        ('<annotation>', '<annotation xmlns="urn:a">'),
        ('<difficult>0', '<difficult>Unspecified'),
        ('<difficult>0', '<difficult>False'),
        ('<bndbox>', '<part><name>ear</name>' + BNDBOX + '</part><bndbox>'),
        ('<bndbox>', '<part><object>' + BNDBOX + '</object></part><bndbox>'),
        (
            BNDBOX,
            '<polygon><x1>4</x1><y1>6</y1><x2>24</x2><y2>7</y2><x3>9</x3>'
            '<y3>18</y3></polygon>',
        ),
        (
            BNDBOX,
            '<polygon><pt><x>4</x><y>18</y></pt><pt><x>24</x><y>6</y></pt>'
            '</polygon>',
        ),
        (
            BNDBOX,
            '<robndbox><cx>14</cx><cy>12</cy><w>12</w><h>20</h>'
            '<angle>1.5707963</angle></robndbox>',
        ),
    ],
)
def test_variants_of_other_tools_are_read(tmp_path, old, new):
    tree(tmp_path, voc(text=XML.replace(old, new)))
    check_two_classes(find_data(tmp_path))


def test_declared_encoding_is_used(tmp_path):
    tree(tmp_path, voc('JPEGImages/a'))
    text = '<?xml version="1.0" encoding="GBK"?>' + XML.format('细胞')
    (tmp_path / 'Annotations' / 'a.xml').write_bytes(text.encode('gbk'))
    assert read_test(tmp_path).classes == ('细胞',)


def test_unusable_records_are_named(tmp_path):
    tree(tmp_path, voc())
    folder = tmp_path / 'Annotations'
    entity = '<!DOCTYPE annotation [<!ENTITY y "z">]><annotation/>'
    (folder / 'a.xml').write_text(entity, 'utf-16')
    (folder / 'b.xml').write_text(XML.replace('24', 'wide'))
    (folder / 'c2.xml').write_text(XML.replace('renamed', 'c'))
    hard = (folder / 'd.xml').read_text().replace('0</diff', '1</diff')
    (folder / 'd.xml').write_text(hard)
    (folder / 'e.xml').write_text(XML.replace(BNDBOX, ''))
    (folder / 'f.xml').write_text('<annotations><image/></annotations>')
    table = read_test(tmp_path)
    assert table.crowd.sum() == 1
    assert sum(table.errors.counts.values()) == 5
    for name in (
        'a.xml: it has XML entities',
        'b.xml, object 1',
        'c2.xml',
        'e.xml, object 1',
    ):
        assert name in str(table.errors)
    assert 'got <annotations>; from other formats' in str(table.errors)


def test_own_name_wins_over_filename_with_a_warning(tmp_path):
    tree(tmp_path, voc(text=XML.replace('renamed', 'f')))
    table = read_test(tmp_path)
    assert table.names == SIX
    assert "a.xml: 'f.jpg', using" in str(table.warnings)
    assert sum(table.warnings.counts.values()) == 5


def test_classes_that_differ_only_in_case_are_named(tmp_path):
    tree(tmp_path, voc())
    (tmp_path / 'Annotations' / 'f.xml').write_text(XML.format('Cat'))
    table = read_test(tmp_path)
    assert table.classes == ('cat', 'dog', 'Cat')
    assert 'only in case:\n      cat\n      Cat' in str(table.warnings)
