import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdet_shufflenetv2 import cli
from mmdet_shufflenetv2.data import synthetic
from mmdet_shufflenetv2.data.class_folders import check_class_folders
from mmdet_shufflenetv2.data.folders import find_data
from mmdet_shufflenetv2.data.reading import (
    read_boxes,
    report,
)
from mmdet_shufflenetv2.data.synthetic import (
    CLASSES,
    ClassificationSet,
    DetectionSet,
    draw_picture,
    write_set,
)
from mmdet_shufflenetv2.data.table import DatasetError

SMALL = DetectionSet(train=3, val=2, size=(96, 80))


def test_boxes_lie_in_the_picture_and_contain_the_area():
    pictures = [draw_picture((0, 0, i))[1] for i in range(20)]
    objects = [each for picture in pictures for each in picture]
    for each in objects:
        x, y, width, height = each['bbox']
        assert min(x, y) >= 0
        assert x + width <= 256
        assert y + height <= 192
        assert each['area'] <= width * height
        assert each['iscrowd'] or each['area'] >= 40
    labels = {each['category_id'] for each in objects}
    assert labels == set(range(1, 1 + len(CLASSES)))
    # COCO's small, medium and large.
    sides = np.sqrt([each['area'] for each in objects])
    assert (np.histogram(sides, [0, 32, 96, 999])[0] > 5).all()
    assert any(each['iscrowd'] for each in objects)
    assert not all(pictures)


def test_detection_set_is_found_and_complete(tmp_path):
    assert write_set(tmp_path / 'set', SMALL)
    splits = find_data(tmp_path / 'set')
    assert splits.classes == CLASSES
    for name, count in ('train', 3), ('val', 2):
        split = getattr(splits, name)
        table = read_boxes(split)
        assert report(table, strict=True) == []
        assert len(table) == count
        assert {Path(file).parent.name for file in table.files} == {name}


def test_classification_set_has_imagenets_layout(tmp_path):
    content = ClassificationSet(train=2, val=1)
    assert write_set(tmp_path / 'crops', content)
    folders = [tmp_path / 'crops' / split for split in ('train', 'val')]
    assert check_class_folders(folders) == tuple(sorted(CLASSES))
    image = cv2.imread(str(next(folders[0].rglob('*.png'))))
    assert image.shape == (64, 64, 3)


def test_existing_set_is_kept_and_another_one_is_an_error(tmp_path):
    folder = tmp_path / 'set'
    write_set(folder, SMALL)
    assert not write_set(folder, SMALL)
    with pytest.raises(DatasetError, match='another version of this set'):
        write_set(folder, DetectionSet(train=3, val=2, size=(96, 64)))


@pytest.mark.parametrize('name', ['manifest.json', 'thesis.tex'])
def test_existing_files_are_never_deleted(tmp_path, name):
    """Any folder with a manifest.json once was deleted."""
    folder = tmp_path / 'set'
    folder.mkdir()
    (folder / name).write_text('{"name": "my web app"}')
    with pytest.raises(DatasetError, match='holds something else'):
        write_set(folder, SMALL)
    assert (folder / name).read_text() == '{"name": "my web app"}'
    assert [path.name for path in tmp_path.rglob('*')] == ['set', name]


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, '_png', interrupted)
    for options in [], ['--crops']:
        with pytest.raises(SystemExit) as stopped:
            cli.main('synthetic', [str(tmp_path / 'set'), *options])
        assert stopped.value.code == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'name, made', [('shapes', 'annotations'), ('shape_crops', 'train/star')]
)
def test_earlier_names_of_the_commands_still_work(
    tmp_path, monkeypatch, name, made
):
    arguments = [name, str(tmp_path / 'set'), '--train', '1', '--val', '1']
    monkeypatch.setattr(sys, 'argv', arguments)
    runpy.run_module(
        f'mmdet_shufflenetv2.datasets.{name}', run_name='__main__'
    )
    assert (tmp_path / 'set' / made).is_dir()
