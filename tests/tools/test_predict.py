"""``predict``: what it takes, what it saves, and what a bad file costs."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

from mmdet_shufflenetv2 import Detector
from mmdet_shufflenetv2.cli.predict import Frame, Output, find_files
from mmdet_shufflenetv2.data.synthetic import CLASSES
from mmdet_shufflenetv2.engine.pictures import COLOURS
from mmdet_shufflenetv2.errors import UserError


@pytest.fixture(scope='module')
def checkpoint(trained):
    return trained[0] / 'epoch_2.pth'


@pytest.fixture
def picture(shapes):
    return cv2.imread(str(next((shapes / 'val').glob('*.png'))))


def write_video(path, frame, count):
    video = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*'MJPG'), 5, frame.shape[1::-1]
    )
    for shift in range(count):
        video.write(np.roll(frame, 4 * shift, 1))
    video.release()
    return path


def rows_of(path):
    with path.open(encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def test_all_formats_say_the_same_and_no_image_is_lost(
    here, checkpoint, picture, tmp_path
):
    """Names that differ in folder or suffix alone, and all kinds of pixels."""
    images = {
        'a/x.png': picture,
        'b/x.png': picture[::-1],
        'b/x.jpg': picture[:, ::-1],
        'grey.png': picture[..., 0],
        'alpha.png': np.dstack([picture, picture[..., 0]]),
        'deep.png': picture[..., 0].astype(np.uint16) * 257,
        'line.png': np.zeros((2, 3000, 3), np.uint8),
        'žluť 写真.bmp': picture,
    }
    for name, pixels in images.items():
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    (tmp_path / 'images' / 'empty.jpg').touch()
    (tmp_path / 'images' / 'notes.txt').touch()
    arguments = '--score-thr', 0, '--batch', 3, '--save'
    formats = 'pictures', 'coco', 'yolo', 'csv'
    options = *arguments, *formats
    said = here(
        'predict', 'images', checkpoint, *options, cwd=tmp_path, code=1
    )
    assert 'error: 1 skipped\n  image images/empty.jpg: ' in said
    out = tmp_path / 'detections'
    drawn = {str(p.relative_to(out)) for p in out.rglob('*.*')}
    assert images.keys() <= drawn
    coco = json.loads((out / 'detections.json').read_text())
    sizes = {i['file_name']: (i['height'], i['width']) for i in coco['images']}
    assert sizes == {name: p.shape[:2] for name, p in images.items()}
    assert [c['name'] for c in coco['categories']] == list(CLASSES)
    rows = rows_of(out / 'detections.csv')
    assert len(rows) == len(coco['annotations']) > len(images)
    for row, box in zip(rows, coco['annotations'], strict=True):
        assert row['class'] == CLASSES[box['category_id'] - 1]
        assert float(row['x2']) == pytest.approx(sum(box['bbox'][::2]))
    labels = {p.stem: np.loadtxt(p) for p in (out / 'labels').rglob('*.txt')}
    assert len(list((out / 'labels').rglob('*.txt'))) == len(images)
    grey = [r for r in rows if r['image'] == 'grey.png']
    width = picture.shape[1]
    for row, (label, x, _, w, _) in zip(grey, labels['grey'], strict=True):
        assert row['class'] == CLASSES[int(label)]
        assert float(row['x1']) == pytest.approx((x - w / 2) * width, abs=1e-2)


def test_video_becomes_a_video_and_a_cut_one_is_named(
    here, checkpoint, picture, tmp_path
):
    whole = write_video(tmp_path / 'whole.avi', picture, 6)
    content = whole.read_bytes()
    (tmp_path / 'cut.avi').write_bytes(content[: len(content) // 2])
    (tmp_path / 'none.mp4').touch()
    cv2.imwrite(str(tmp_path / 'photo.png'), picture)
    videos = 'whole.avi', 'cut.avi', 'none.mp4', 'photo.png'
    said = here('predict', *videos, checkpoint, cwd=tmp_path, code=1)
    assert 'cut.avi is truncated' in said
    assert 'none.mp4 cannot be opened' in said
    assert 'whole' not in said
    out = tmp_path / 'detections'
    names = {p.name for p in out.iterdir()}
    assert names == {
        'whole.avi.mp4',
        'cut.avi.mp4',
        'photo.png',
        'detections.json',
    }
    drawn = cv2.VideoCapture(str(out / 'whole.avi.mp4'))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    images = json.loads((out / 'detections.json').read_text())['images']
    assert images[0]['file_name'] == 'whole.avi/000001.jpg'
    assert images[-1]['file_name'] == 'photo.png'


def test_a_class_has_the_same_colour_in_every_picture(tmp_path):
    pixels = np.zeros((40, 40, 3), np.uint8)
    found = SimpleNamespace(
        **dict(names=['ship'], scores=[0.9], labels=np.array([0])),
        boxes=[[10, 10, 30, 30]],
    )
    output = Output(tmp_path, {'pictures'}, ('ship',))
    output._draw(Frame('a.png', pixels, 'a.png'), found)
    b, g, r = cv2.imread(str(tmp_path / 'a.png'))[30, 20]
    assert f'#{r:02x}{g:02x}{b:02x}' == COLOURS[0]


def test_detector_needs_the_checkpoint_alone(checkpoint, shapes):
    detector = Detector(checkpoint, device='cpu', batch=3)
    assert detector.classes == tuple(CLASSES)
    assert len(detector(shapes / 'val')) == 4


def test_nothing_is_taken_from_an_earlier_call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in '.', 'found', 'found-2':
        Path(folder).mkdir(exist_ok=True)
        Path(folder, 'a.jpg').touch()
    image = {'a.jpg': Path('a.jpg')}
    assert find_files(['.', '*.jpg'], 'found') == image
    assert find_files(['a.jpg', '0'], 'found') == image | {'camera 0': 0}


def test_a_folder_is_searched_for_all_images_that_can_be_read(tmp_path):
    names = {'a.gif', 'b.JPE', 'c.webp', 'd.mp4'}
    for name in names | {'notes.txt'}:
        (tmp_path / name).touch()
    assert find_files([str(tmp_path)], 'found').keys() == names


def test_video_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    closed = SimpleNamespace(isOpened=lambda: False)
    monkeypatch.setattr(cv2, 'VideoWriter', Mock(return_value=closed))
    pixels = np.zeros((40, 40, 3), np.uint8)
    none = dict(names=[], scores=[], boxes=[], labels=np.array([]))
    found = SimpleNamespace(**none, size=(40, 40))
    output = Output(tmp_path, {'video'}, ('ship',))
    with pytest.raises(UserError, match=r'a\.mp4 cannot be written'):
        output._draw(Frame('a/1.jpg', pixels, 'a', 5), found)
