"""CSV files of boxes as tools write them, and messages about others."""

import json

import numpy as np
import pytest
from coco_files import BOX, SIX, check_two_classes, picture, read_test
from PIL import Image

from mmdet_shufflenetv2.data.folders import find_data
from mmdet_shufflenetv2.data.reading import read_boxes
from mmdet_shufflenetv2.data.table import DatasetError

#: Header and line of a box; {0} is the image, {1} its class.
PLAIN = 'filename,class,xmin,ymin,xmax,ymax', '{},{},4,6,24,18'
TENSORFLOW = 'filename,width,height,class,xmin,ymin,xmax,ymax'
VIA = 'filename,file_size,file_attributes,region_count,region_id,'
VIA = f'#{VIA}region_shape_attributes,region_attributes'
LISA = ';'.join(
    f'{side} corner {axis}'
    for side in ('Upper left', 'Lower right')
    for axis in 'XY'
)


def via(attributes, **shape):
    """Return a line of VIA, whose last columns are JSON."""
    cells = [json.dumps(each) for each in (shape, attributes)]
    quoted = ['"{}"'.format(cell.replace('"', '""')) for cell in cells]
    text = ','.join(quoted).replace('{', '{{').replace('}', '}}')
    return '{},1,"{{}}",1,0,' + text.replace('CLASS', '{}')


EXPORTS = {
    'roboflow': (TENSORFLOW, '{},40,30,{},4,6,24,18'),
    'tensorflow without header': ('', '{},40,30,{},4,6,24,18'),
    'makesense': (
        'label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,'
        'image_width,image_height',
        '{1},4,6,20,12,{0},40,30',
    ),
    'makesense without header': ('', '{1},4,6,20,12,{0},40,30'),
    'retinanet': ('', 'somewhere/{},4,6,24,18,{}'),
    'SKU-110K': ('', '{},4,6,24,18,{},40,30'),
    'kaggle': (
        'image_id,width,height,bbox,source,label',
        '{},40,30,"[4, 6, 20, 12]",x,{}',
    ),
    'array': ('image_id,bbox,class_id,class', '{},[4.0 6. 20 12],1,{}'),
    'geometry': (
        'id,image_id,geometry,class',
        '1,{},"[(4, 6), (24, 7), (9, 18), (4, 6)]",{}',
    ),
    'open images': (
        'ImageID,LabelName,XMin,XMax,YMin,YMax',
        '{},{},0.1,0.6,0.2,0.6',
    ),
    'shares': (
        'img,label,x_center,y_center,width,height',
        '{},{},.35,.4,.5,.4',
    ),
    'centres': ('image,class,cx,cy,w,h', '{},{},14,12,20,12'),
    'face masks': ('name,x1,x2,y1,y2,classname', '{},4,24,6,18,{}'),
    'left and top': ('file,label,left,top,width,height', '{},{},4,6,20,12'),
    'from 0': ('image_name,label,x0,y0,x1,y1', '{},{},4,6,24,18'),
    'own size': (
        'image,class,x1,y1,x2,y2,width,height',
        '{},{},4,6,24,18,20,12',
    ),
    'BCCD': ('image_names,cell_type,xmin,xmax,ymin,ymax', '{},{},4,24,6,18'),
    'GTSRB': (
        'Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId',
        '{};40;30;4;6;24;18;{}',
    ),
    'img_name': ('img_name,label,minX,minY,maxX,maxY', '{},{},4,6,24,18'),
    'image_filename': (
        'image_filename,label,startX,startY,endX,endY',
        '{},{},4,6,24,18',
    ),
    'frame': (
        'frame,label,bb_left,bb_top,bb_width,bb_height',
        '{},{},4,6,20,12',
    ),
    'unknown class column': ('image,fruit,x1,y1,x2,y2', '{},{},4,6,24,18'),
    'number and name': ('image,class,label,x,y,w,h', '{},0,{},4,6,20,12'),
    'two texts': ('image,type,species,x,y,w,h', '{},bbox,{},4,6,20,12'),
    'LISA': (f'Filename;Annotation tag;{LISA}', '{};{};4;6;24;18'),
    'AutoML': ('', 'UNASSIGNED,gs://b/{},{},0.1,0.2,,,0.6,0.6,,'),
    'VIA': (
        VIA,
        via({'type': 'CLASS'}, name='rect', x=4, y=6, width=20, height=12),
    ),
    'VIA, polygons': (
        VIA[1:],
        via(
            {'a': 'x', 'label': {'CLASS': True}},
            all_points_x=[4, 24],
            all_points_y=[18, 6],
        ),
    ),
    'VIA, ellipses': (VIA, via({'a': 'CLASS'}, cx=14, cy=12, rx=10, ry=6)),
    'tabs': (PLAIN[0].replace(',', '\t'), '{}\t{}\t4\t6\t24\t18'),
    'decimal commas': (PLAIN[0].replace(',', ';'), '{};{};4,0;6,0;24,0;18,0'),
    'quoted': (PLAIN[0].replace(',', ', '), '"{}", "{}", "4", "6", 24, 18'),
    'separator line': (
        'sep=;\n' + PLAIN[0].replace(',', ';'),
        '{};{};4;6;24;18',
    ),
}


def write(path, header, line, names=SIX, folder='images'):
    rows = [header] if header else []
    for index, name in enumerate(names):
        picture(path.parent / folder / name)
        image = name[:1] if 'ID' in header else name
        rows.append(line.format(image, ('cat', 'dog')[index % 2]))
    path.write_text('\n'.join(rows) + '\n')


@pytest.mark.parametrize('name', EXPORTS)
def test_exports_are_read(tmp_path, name):
    write(tmp_path / 'boxes.csv', *EXPORTS[name])
    (tmp_path / 'prices.csv').write_text('a,b\n1,2\n')
    check_two_classes(find_data(tmp_path))


def test_unrelated_picture_next_to_the_file_is_ignored(tmp_path):
    """It once kept images in other folders from being found."""
    write(tmp_path / 'boxes.csv', *PLAIN)
    picture(tmp_path / 'cover.jpg')
    check_two_classes(find_data(tmp_path))


@pytest.mark.parametrize(
    'encoding, name, read_as',
    [
        ('utf-8-sig', 'Rüde', 'Rüde'),
        ('utf-16', 'Rüde', 'Rüde'),
        ('cp1252', 'Rüde', 'Rüde'),
        # Names in Cyrillic once became others without a word.
        ('cp1251', 'кот', 'êîò'),
    ],
)
def test_encodings_of_excel_are_read_and_code_pages_are_a_warning(
    tmp_path, encoding, name, read_as
):
    write(tmp_path / 'a.csv', *PLAIN)
    text = (tmp_path / 'a.csv').read_text().replace('dog', name)
    (tmp_path / 'a.csv').write_bytes(text.encode(encoding))
    table = read_test(tmp_path)
    assert table.classes == ('cat', read_as)
    warnings = ['file not in UTF-8, but read as cp1252']
    assert list(table.warnings.counts) == warnings * ('cp' in encoding)


def test_split_column_is_used(tmp_path):
    write(tmp_path / 'a.csv', 'set,' + PLAIN[0], 'TRAIN,' + PLAIN[1])
    text = (tmp_path / 'a.csv').read_text()
    for name, split in ('e', 'VALIDATION'), ('f', 'TEST'), ('d', 'UNASSIGNED'):
        text = text.replace(f'TRAIN,{name}', f'{split},{name}')
    (tmp_path / 'a.csv').write_text(text)
    splits = find_data(tmp_path)
    assert read_boxes(splits.train).names == SIX[:3]
    assert (
        read_boxes(splits.val).names == read_test(tmp_path).names == SIX[4:5]
    )
    some = find_data(tmp_path, val_fraction=0.5)
    assert len(read_boxes(some.train)) + len(read_boxes(some.val)) == 6


@pytest.mark.parametrize(
    'header, line, what',
    [
        ('image,bbox,label', '{},"[24, 16, 34, 28]",{}', 'x1, y1, x2, y2'),
        ('image,bbox,label', '{},"[.6, .53333, .85, .93333]",{}', 'x1, y1'),
        ('image,x,y,w,h,label', '{},29,22,10,12,{}', 'x, y of the centre'),
        ('', '{},24,16,10,12,{}', 'x, y, width, height'),
    ],
)
def test_boxes_are_interpreted_so_that_most_lie_in_their_images(
    tmp_path, header, line, what
):
    """Corners read as a corner and a size are garbage that trains."""
    write(tmp_path / 'a.csv', header, line)
    table = read_test(tmp_path)
    assert np.allclose(table.boxes, [24, 16, 10, 12], atol=0.01)
    assert f'read as {what}' in str(table.warnings)


@pytest.mark.parametrize(
    'header, line, bad',
    [
        ('image,x,y,width,height,label', '{},8,9,10,12,{}', '33,9,10,12'),
        ('image,bbox,label', '{},"[8, 9, 10, 12]",{}', '"[33, 9, 10, 12]"'),
        ('image,xmin,ymin,xmax,ymax,label', '{},8,9,18,21,{}', '9,9,9,9'),
        # Fractions of the image size, which once were taken as pixels.
        ('image,x1,y1,x2,y2,label', '{},.2,.3,.45,.7,{}', '.1,.1,5.5,.5'),
    ],
)
def test_one_wrong_box_does_not_change_the_others(tmp_path, header, line, bad):
    """All boxes of the file once moved because of one."""
    write(tmp_path / 'a.csv', header, line)
    with (tmp_path / 'a.csv').open('a') as file:
        file.write(f'a.jpg,{bad},cat\n')
    table = read_test(tmp_path)
    assert table.boxes[:6].tolist() == [[8, 9, 10, 12]] * 6
    assert not table.warnings
    assert sum(table.errors.counts.values()) == 1


def test_images_of_another_size_than_stated_are_left_out(tmp_path):
    """Their boxes once were applied to the existing image."""
    write(tmp_path / 'a.csv', TENSORFLOW, '{},80,60,{},4,6,24,18')
    with pytest.raises(DatasetError, match='but its annotation says 80 x 60'):
        read_test(tmp_path)


@pytest.mark.parametrize(
    'mapping', ['cat,7\ndog,8\n', 'id,name\n7,cat\n8,dog\n']
)
def test_class_numbers_get_names_from_a_second_file(tmp_path, mapping):
    write(tmp_path / 'a.csv', *EXPORTS['retinanet'])
    text = (tmp_path / 'a.csv').read_text()
    (tmp_path / 'a.csv').write_text(
        text.replace('cat', '7').replace('dog', '8')
    )
    assert read_test(tmp_path).classes == ('7', '8')
    (tmp_path / 'classes.csv').write_text(mapping)
    check_two_classes(find_data(tmp_path))


@pytest.mark.parametrize('crowd', ['1', 'TRUE'])
def test_groups_of_open_images_are_crowds_and_codes_get_names(tmp_path, crowd):
    header, line = EXPORTS['open images']
    path = tmp_path / 'labels' / 'detections.csv'
    path.parent.mkdir()
    write(path, f'{header},IsGroupOf', f'{line},0')
    text = path.read_text().replace('0\n', f'{crowd}\n', 1)
    text = text.replace('cat', '/m/01yrx')
    path.write_text(text.replace('dog', '/m/0bt9lr'))
    names = tmp_path / 'metadata' / 'classes.csv'
    names.parent.mkdir()
    names.write_text('/m/01yrx,cat\n/m/0bt9lr,dog\n')
    assert read_test(tmp_path).crowd.tolist() == [True, *[False] * 5]
    check_two_classes(find_data(tmp_path))


def test_boxes_in_per_cent_are_a_warning(tmp_path):
    Image.new('RGB', (400, 300)).save(tmp_path / 'a.jpg')
    (tmp_path / 'a.csv').write_text(f'{PLAIN[0]}\na.jpg,cat,10,20,60,60\n')
    assert 'may be in per cent' in str(read_test(tmp_path).warnings)


def test_missing_classes_are_a_warning(tmp_path):
    write(tmp_path / 'a.csv', 'image_id,bbox,source', '{},"[4, 6, 20, 12]",{}')
    table = read_test(tmp_path)
    assert table.classes == ('object',)
    assert "all are 'object'" in str(table.warnings)


@pytest.mark.parametrize(
    'header, line',
    [
        ('image,color,animal,x,y,w,h', '{},red,{},4,6,20,12'),
        (
            VIA,
            via(
                {'color': 'red', 'animal': 'CLASS'},
                **dict(name='rect', x=4, y=6, width=20, height=12),
            ),
        ),
    ],
)
def test_unclear_column_of_the_class_is_an_error(tmp_path, header, line):
    """All classes once were one, or those of the first attribute."""
    write(tmp_path / 'a.csv', header, line)
    with pytest.raises(DatasetError, match='got color, animal'):
        read_test(tmp_path)


def test_lines_without_objects_and_without_boxes(tmp_path):
    write(tmp_path / 'a.csv', *PLAIN, SIX[:1])
    for name in SIX[1:]:
        picture(tmp_path / 'images' / name)
    empty = (
        'b.jpg,,,,,',
        'C.JPG,none,nan,nan,nan,nan',
        'd.jpg,,0,0,0,0',
        'e.jpg',
    )
    bad = 'f.jpg,cat,4,6,wide,18', 'a.jpg,,4,6,24,18', 'z.jpg,cat,4,6,24,18'
    with (tmp_path / 'a.csv').open('a') as file:
        file.write('\n'.join((*empty, *bad)))
    table = read_test(tmp_path)
    assert [name.lower() for name in table.names] == SIX
    assert table.boxes.tolist() == [BOX]
    assert table.classes == ('cat',)
    assert sum(table.errors.counts.values()) == len(bad)
    for where in 'line 7: could', 'line 8: it has no class', "line 9: 'z.jpg'":
        assert where in str(table.errors)


@pytest.mark.parametrize(
    'text',
    [
        # Unknown or ambiguous order, which a guess may get wrong.
        'photo,a,b,c,d,kind\na.jpg,4,6,20,12,cat\n',
        'a.jpg,4,6,24,18,7,40,30\n',
        'filename,boxes\na.jpg,"[[4, 6, 24, 18]]"\n',
    ],
)
def test_unknown_columns_are_shown(tmp_path, text):
    picture(tmp_path / 'a.jpg')
    (tmp_path / 'boxes.csv').write_text(text)
    with pytest.raises(DatasetError) as error:
        find_data(tmp_path)
    assert f'boxes.csv (it begins with {text[:20]!r:.18}' in str(error.value)
    with pytest.raises(DatasetError, match='columns such as filename, class'):
        find_data(tmp_path, train_ann='boxes.csv')
