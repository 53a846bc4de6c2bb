"""Folders of ImageNet's layout, spoiled in one way each."""

import shutil

import cv2
import numpy as np
import pytest

from mmdet_shufflenetv2 import cli
from mmdet_shufflenetv2.data import class_folders
from mmdet_shufflenetv2.data.class_folders import (
    check_class_folders,
    imagenet_synsets,
)
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


def refusal(root, **options) -> str:
    with pytest.raises(DatasetError) as error:
        check(root, **options)
    return str(error.value)


def test_classes_are_in_the_order_of_the_labels(root):
    assert check(root) == ('cat', 'dog')
    assert check(root, classes=('dog', 'cat')) == ('cat', 'dog')


def test_absent_split_is_named(root):
    shutil.rmtree(root / 'val')
    assert f'{root}/val has no class folder' in refusal(root)


def test_classes_of_one_split_only_are_named(root):
    (root / 'val' / 'dog').rename(root / 'val' / 'wolf')
    text = refusal(root)
    assert f'1 x missing class folder in {root}/val' in text
    assert f'1 x unexpected class folder in {root}/val' in text
    assert 'dog' in text
    assert 'wolf' in text


def test_class_without_an_image_is_named_with_what_it_has(root):
    for path in sorted((root / 'train' / 'dog').rglob('*.*')):
        path.rename(path.with_suffix('.gif'))
    text = refusal(root)
    assert '1 x class without an image' in text
    assert f'{root}/train/dog' in text


@pytest.mark.parametrize(
    'content, message',
    [(b'', 'image of 0 bytes'), (b'nothing', 'cannot be decoded')],
)
def test_broken_image_is_named(root, content, message):
    path = root / 'train' / 'dog' / 'sub' / 'b.JPEG'
    path.write_bytes(content)
    text = refusal(root)
    assert message in text
    assert str(path) in text


def test_large_set_is_not_decoded_but_by_the_command(
    root, monkeypatch, capsys
):
    monkeypatch.setattr(class_folders, 'DECODED_BYTES', 1)
    path = root / 'val' / 'cat' / 'a.png'
    path.write_bytes(b'nothing')
    assert check(root) == ('cat', 'dog')
    with pytest.raises(SystemExit) as stopped:
        cli.main('class_folders', [str(root), '--any'])
    assert stopped.value.code == 2
    assert str(path) in capsys.readouterr().err


def test_missing_synsets_are_counted_and_named(tmp_path):
    synsets = imagenet_synsets()
    for split in 'train', 'val':
        for name in synsets:
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            (folder / 'a.JPEG').write_bytes(b'x')
    for name in synsets[:7]:
        shutil.rmtree(tmp_path / 'train' / name)
    text = refusal(tmp_path, classes=synsets, decode=False)
    assert (
        f'7 x missing class folder in {tmp_path}/train (1000 classes expected)'
    ) in text
    assert synsets[0] in text
    assert 'and 2 more' in text
    assert f'in {tmp_path}/val' not in text
