"""The drawn classification set."""

import hashlib

import cv2
import pytest
from mmdet_shufflenetv2.data.drawing import RandomSource
from mmdet_shufflenetv2.data.scenes import CLASSES, Canvas
from mmdet_shufflenetv2.data.shape_crops import (
    CropsSpec,
    draw_crop,
    generate,
)

from mmdet_shufflenetv2.data import shape_crops
from mmdet_shufflenetv2.data.class_folders import check_class_folders

#: It changes only together with shape_crops.VERSION.
GOLDEN = '3eb6fc46559816114c8a3bce5ec3658d2f70e4fef77fada77666e0a6bcd72fed'
SMALL = CropsSpec(train=2, val=1, size=64, seed=5)


def tree_digest(folder):
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def test_same_bytes_on_every_machine(tmp_path):
    assert generate(tmp_path / 'set', SMALL)
    assert tree_digest(tmp_path / 'set') == GOLDEN
    assert not generate(tmp_path / 'set', SMALL)


def test_command_writes_the_same_bytes(tmp_path, capsys):
    options = ['--train', '2', '--val', '1', '--size', '64', '--seed', '5']
    shape_crops.main([str(tmp_path / 'set'), *options])
    assert tree_digest(tmp_path / 'set') == GOLDEN
    assert '6 classes of 2 + 1 images, written' in capsys.readouterr().out


def test_layout_is_imagenets(tmp_path):
    generate(tmp_path, SMALL)
    folders = [tmp_path / 'train', tmp_path / 'val']
    assert check_class_folders(folders, decode=True) == tuple(sorted(CLASSES))
    for split, count in ('train', 2), ('val', 1):
        for name in CLASSES:
            images = list((tmp_path / split / name).iterdir())
            assert len(images) == count
            assert cv2.imread(str(images[0])).shape == (64, 64, 3)


def test_no_picture_is_there_twice(tmp_path):
    generate(tmp_path, CropsSpec(train=8, val=4, size=64))
    pictures = [path.read_bytes() for path in tmp_path.rglob('*.png')]
    assert len(pictures) == len(set(pictures)) == 12 * len(CLASSES)


def test_the_shape_is_of_the_class_and_mostly_visible(monkeypatch):
    canvases = []
    scene = Canvas.scene

    def kept(canvas):
        canvases.append(canvas)
        return scene(canvas)

    monkeypatch.setattr(Canvas, 'scene', kept)
    spec = CropsSpec().scene
    shares = []
    for index in range(60):
        label = index % len(CLASSES)
        draw_crop(RandomSource(9, index), spec, label)
        canvas = canvases[-1]
        assert canvas.labels == [-1, label]
        seen = (canvas.owner == 1).sum()
        assert seen >= spec.min_visible * canvas.full_area[1]
        shares.append(seen / canvas.owner.size)
    assert min(shares) < 0.15
    assert max(shares) > 0.4


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(val=0), 'val must be at least 1, but got 0'),
        (dict(size=32), 'size must be at least 64, but got 32'),
    ],
)
def test_bad_spec_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CropsSpec(**arguments)
