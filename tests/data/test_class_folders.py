"""Folders in ImageNet's layout, spoiled in one way each."""

import shutil

import cv2
import numpy as np
import pytest

from mmdet_shufflenetv2.data.class_folders import check_class_folders
from mmdet_shufflenetv2.data.table import DatasetError


@pytest.fixture
def root(tmp_path):
    for split in 'train', 'val':
        for name in 'cat', 'dog':
            folder = tmp_path / split / name / 'sub'
            folder.mkdir(parents=True)
            picture = np.full((8, 8, 3), 100, np.uint8)
            cv2.imwrite(str(folder.parent / 'a.png'), picture)
            cv2.imwrite(str(folder / 'b.JPEG'), picture)
    return tmp_path


def check(root, **options):
    return check_class_folders([root / 'train', root / 'val'], **options)


def test_classes_are_in_label_order(root):
    assert check(root) == ('cat', 'dog')
    assert check(root, classes=('dog', 'cat')) == ('cat', 'dog')


@pytest.mark.parametrize(
    'spoil, messages',
    [
        (
            lambda root: (root / 'val/dog').rename(root / 'val/wolf'),
            ['1 x missing class folder in', '1 x unexpected', 'dog', 'wolf'],
        ),
        (
            lambda root: (
                shutil.move(root / 'train/dog/sub', root / 'other')
                and (root / 'train/dog/a.png').rename(root / 'train/dog/a.gif')
            ),
            ['1 x class without images', '/train/dog'],
        ),
        (
            lambda root: (root / 'val/dog/a.png').write_bytes(b'nothing'),
            ['cannot be decoded', '/val/dog/a.png'],
        ),
    ],
)
def test_problems_are_named(root, spoil, messages):
    spoil(root)
    with pytest.raises(DatasetError) as error:
        check(root)
    for message in messages:
        assert message in str(error.value)
