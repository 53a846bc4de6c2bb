"""Pascal VOC XML files in the layouts and variants of common tools."""

from pathlib import Path

import pytest
from coco_files import SIX, check_two_classes, picture, read_test

from mmdet_shufflenetv2.data.folders import find_data
from mmdet_shufflenetv2.data.reading import read_boxes
from mmdet_shufflenetv2.data.table import DatasetError

XML = """<annotation><folder>x</folder><filename>renamed.jpg</filename>
<size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>{}</name><difficult>0</difficult><bndbox>
<xmin>4</xmin><ymin>6</ymin><xmax>24</xmax><ymax>18</ymax></bndbox></object>
</annotation>"""
BNDBOX = XML[XML.index('<bndbox>') : XML.index('</object>')]


def write_voc(
    root, names=SIX, xml='Annotations', images='JPEGImages', text=XML
):
    for index, name in enumerate(names):
        picture(root / images / name)
        path = root / xml / f'{Path(name).stem}.xml'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(('cat', 'dog')[index % 2]))


def write_lists(folder, **lists):
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        (folder / f'{name}.txt').write_text('\n'.join(lines))


@pytest.mark.parametrize(
    'place, lists, train, val',
    [
        ('ImageSets/Main', dict(train=['a', 'b  1'], val='c'), 'ab', 'c'),
        ('ImageSets', dict(train='ab', valid='c'), 'ab', 'c'),
        ('.', dict(train=['images/a.jpg x/a.xml'], test='c'), 'a', 'c'),
        # Test images once were trained on.
        ('ImageSets/Main', dict(trainval='ab', test='c'), 'ab', 'c'),
        (
            'ImageSets/Main',
            dict(train='a', val='b', trainval='ab', test='c', cat_train='b'),
            'a',
            'b',
        ),
        (
            'ImageSets/Main',
            dict(cat_train=['a  1'], dog_train=['b -1'], cat_val=['c  1']),
            'ab',
            'c',
        ),
    ],
)
def test_image_lists_determine_the_split(tmp_path, place, lists, train, val):
    write_voc(tmp_path, SIX[:3])
    write_lists(tmp_path / place, **lists)
    # Lists of another task, and unrelated files.
    write_lists(tmp_path / 'ImageSets' / 'Segmentation', train='c', val='a')
    write_lists(tmp_path, notes='a', train_log=['loss 3'])
    splits = find_data(tmp_path)
    check_two_classes(splits)
    for split, letters in (splits.train, train), (splits.val, val):
        names = [f'{letter}.jpg' for letter in letters]
        assert read_boxes(split).names == names
    assert read_test(tmp_path).names == [f'{val}.jpg']


def test_masks_with_the_names_of_images_are_not_listed(tmp_path):
    """In VOC itself, images that have masks once were not found."""
    for letter in 'ab':
        text = XML.replace('renamed', letter)
        write_voc(tmp_path, [f'{letter}.jpg'], text=text)
    picture(tmp_path / 'SegmentationClass' / 'a.png')
    write_lists(tmp_path / 'ImageSets' / 'Main', train='ab', val='b')
    assert read_boxes(find_data(tmp_path).train).names == SIX[:2]


def test_named_suffix_tells_images_from_masks(tmp_path):
    """The masks of Oxford-IIIT Pet once were trained on."""
    for letter in 'ab':
        text = XML.replace('renamed', letter)
        write_voc(tmp_path, [f'{letter}.jpg'], 'xmls/xml', 'images', text)
        picture(tmp_path / 'xmls' / 'trimaps' / f'{letter}.png')
    table = read_test(tmp_path)
    assert table.names == SIX[:2]
    assert not table.warnings


def test_images_in_both_splits_are_reported(tmp_path):
    write_voc(tmp_path, SIX[:3])
    write_lists(tmp_path / 'ImageSets' / 'Main', trainval='abc', val='c')
    assert '1 images are in both training' in find_data(tmp_path).notes[1]


def test_years_are_read_together(tmp_path):
    for year, names in ('VOC2007', SIX[:2]), ('VOC2012', SIX[2:4]):
        write_voc(tmp_path / year, names)
        letters = [name[0] for name in names]
        lists = tmp_path / year / 'ImageSets' / 'Main'
        write_lists(lists, train=letters[:1], val=letters[1:])
    for split, letters in zip(find_data(tmp_path), ['ac', 'bd'], strict=False):
        assert read_boxes(split).names == [f'{each}.jpg' for each in letters]


@pytest.mark.parametrize(
    'xml, images', [('annotations', 'images'), ('all', 'all')]
)
def test_voc_without_a_split_is_read(tmp_path, xml, images):
    write_voc(tmp_path, SIX, xml, images)
    # An unrelated YAML file.
    (tmp_path / 'data.yaml').write_text('names: [x]\n')
    check_two_classes(find_data(tmp_path))


def test_voc_of_roboflow_is_read(tmp_path):
    for split in 'train', 'valid':
        write_voc(tmp_path, SIX[:2], split, split)
    splits = find_data(tmp_path)
    check_two_classes(splits)
    # Both splits use the same file names.
    for split, folder in zip(splits, ('train', 'valid'), strict=False):
        files = read_boxes(split).files
        assert {Path(file).parent for file in files} == {tmp_path / folder}


@pytest.mark.parametrize('xml', ['pictures', 'xml'])
def test_equal_names_are_distinguished_by_their_folders(tmp_path, xml):
    for folder in 'one', 'two':
        place = f'{xml}/{folder}', f'pictures/{folder}'
        write_voc(tmp_path, ['1.jpg', '2.jpg'], *place)
    table = read_test(tmp_path)
    for file, record in zip(table.files, table.records, strict=True):
        assert Path(file).parent.name == Path(record).parent.name
    assert len(table) == 4


def test_image_folders_determine_the_split(tmp_path):
    write_voc(tmp_path, SIX[:3], 'xml', 'images/train')
    write_voc(tmp_path, SIX[3:5], 'xml', 'images/val')
    splits = find_data(tmp_path)
    assert read_boxes(splits.train).names == SIX[:3]
    assert read_boxes(splits.val).names == SIX[3:5]


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
    write_voc(tmp_path, text=XML.replace(old, new))
    check_two_classes(find_data(tmp_path))


def test_declared_encoding_is_used(tmp_path):
    write_voc(tmp_path, ('a.jpg',))
    text = '<?xml version="1.0" encoding="GBK"?>' + XML.format('细胞')
    (tmp_path / 'Annotations' / 'a.xml').write_bytes(text.encode('gbk'))
    assert read_test(tmp_path).classes == ('细胞',)


def test_unusable_records_are_named(tmp_path):
    write_voc(tmp_path)
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
    write_voc(tmp_path, text=XML.replace('renamed', 'f'))
    table = read_test(tmp_path)
    assert table.names == SIX
    assert "a.xml: 'f.jpg', using" in str(table.warnings)
    assert sum(table.warnings.counts.values()) == 5


def test_classes_that_differ_only_in_case_are_named(tmp_path):
    write_voc(tmp_path)
    (tmp_path / 'Annotations' / 'f.xml').write_text(XML.format('Cat'))
    table = read_test(tmp_path)
    assert table.classes == ('cat', 'dog', 'Cat')
    assert 'only in case:\n      cat\n      Cat' in str(table.warnings)


def test_set_without_usable_images_is_an_error_with_the_cause(tmp_path):
    write_voc(tmp_path, text=XML.replace('40', '400'))
    message = r'no usable image\n.*broken image; left out(.|\n)*says 400 x 30'
    with pytest.raises(DatasetError, match=message):
        find_data(tmp_path)
