"""Every image gets its own picture; right and wrong boxes are told apart."""

import csv
import json
from types import SimpleNamespace

import cv2
import pytest
from coco_files import put
from PIL import Image

from mmdet_shufflenetv2.data import BoxMetric
from mmdet_shufflenetv2.data.dataset import coco_api
from mmdet_shufflenetv2.engine.pictures import (
    ValidationPlotsHook,
    compare,
    draw_results,
    save_plots,
)

# Images by name: size when drawn on, EXIF orientation, --exif.
IMAGES = {
    'day/1.jpg': ((40, 60), 1, 'apply'),
    'night/1.jpg': ((40, 60), 1, 'apply'),
    'night/turned.jpg': ((60, 40), 6, 'apply'),
    'night/as_stored.jpg': ((40, 60), 6, 'apply'),
    'day/upside_down.jpg': ((40, 60), 3, 'ignore'),
    'night/upside_down.jpg': ((40, 60), 3, 'ignore'),
}


@pytest.mark.parametrize('setting', ['apply', 'ignore'])
def test_images_of_one_name_get_a_picture_each_as_the_network_saw_them(
    tmp_path, setting
):
    exif, images, found = Image.Exif(), [], []
    for number, name in enumerate(IMAGES):
        (height, width), exif[0x0112], own = IMAGES[name]
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        image = Image.new('RGB', (60, 40), 'red')
        image.paste('black', (0, 0, 9, 9))
        image.save(path, exif=exif)
        if own == setting:
            size = dict(width=width, height=height)
            images.append(dict(id=number, file_name=name, **size))
            found += [box(number, CAT, x, score=x / 40) for x in (5, 20)]
    kinds = [dict(id=CAT, name='$x^$')]
    content = dict(images=images, annotations=[], categories=kinds)
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    (tmp_path / 'found.json').write_text(json.dumps(found))
    metric = BoxMetric(f'{tmp_path}/truth.json', str(tmp_path), exif=setting)
    folder = tmp_path / 'pictures'
    draw_results(folder, metric.table, tmp_path / 'found.json', 0.3)
    drawn = {p.relative_to(folder).as_posix() for p in folder.rglob('*.jpg')}
    assert drawn == {image['file_name'] for image in images}
    for name in drawn:
        picture = cv2.imread(str(folder / name))
        (height, width), *_ = IMAGES[name]
        # The true boxes are on the left.
        assert picture.shape[:2] == (height, 2 * width), name
        assert (picture[-3, -3] // 64).tolist() == [0, 0, 3], 'red in BGR'
        # Of the two boxes found, the left one has a score below 0.3.
        bottom = picture[14, [width + 7, width + 25]] // 64
        assert (bottom == [0, 0, 3]).all(axis=1).tolist() == [True, False]


CAT, DOG = 1, 2


def box(image, kind, x, **more):
    bbox = [x, 5, 10, 10]
    return dict(image_id=image, category_id=kind, bbox=bbox, **more)


def found(image, kind, x, score=0.9):
    return box(image, kind, x, score=score)


@pytest.fixture
def metric(tmp_path):
    """Two images: a cat and a dog in one, a cat and a crowd in the other."""
    boxes = [(0, CAT, 3, 0), (0, DOG, 20, 0), (1, CAT, 3, 0), (1, DOG, 20, 1)]
    annotations = [
        box(*where, id=number, area=100, iscrowd=crowd)
        for number, (*where, crowd) in enumerate(boxes)
    ]
    put(
        *(tmp_path, 'truth.json', '.', ('1.jpg', '2.jpg')),
        annotations=annotations,
        categories=[dict(id=CAT, name='$cat'), dict(id=DOG, name='dog')],
    )
    metric = BoxMetric(str(tmp_path / 'truth.json'), str(tmp_path))
    metric.dataset_meta = dict(classes=('$cat', 'dog'))
    return metric


def test_boxes_are_matched_whatever_their_class(metric):
    """Right, taken for another, missed, found where nothing is; no crowd."""
    api = coco_api(metric.table)
    boxes = [found(0, CAT, 3.3), found(0, CAT, 20), found(1, DOG, 20.6)]
    boxes.append(found(1, DOG, 28, 0.8))
    matrix, errors = compare(api, api.loadRes(boxes), [CAT, DOG])
    assert matrix.tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert errors == {0: (1, 2), 1: (2, 2)}


@pytest.mark.parametrize('boxes', [[], [found(0, CAT, 3), found(1, CAT, 3)]])
def test_plots_of_nothing_and_of_a_class_found(metric, tmp_path, boxes):
    (tmp_path / 'found.json').write_text(json.dumps(boxes))
    (tmp_path / '2.jpg').write_bytes(b'broken')
    save_plots(tmp_path, metric.table, tmp_path / 'found.json')
    with (tmp_path / 'per_class.csv').open() as file:
        cat, dog = csv.DictReader(file)
    assert cat['class'] == '$cat'
    assert float(cat['AP50']) == (1 if boxes else 0)
    assert (cat['boxes'], dog['boxes'], float(dog['AP'])) == ('2', '1', 0)
    for name in 'pr_curves.png', 'confusion_matrix.png', 'worst_images.jpg':
        assert cv2.imread(str(tmp_path / name)) is not None


def test_a_run_keeps_the_best_and_outlives_its_pictures(metric, tmp_path):
    said, best = [], {}
    runner = SimpleNamespace(
        work_dir=str(tmp_path),
        val_evaluator=SimpleNamespace(metrics=[metric]),
        message_hub=SimpleNamespace(get_info=best.get),
        logger=SimpleNamespace(warning=said.append),
    )
    hook = ValidationPlotsHook()
    for score, content in (0.2, '[]'), (0.5, 'broken'), (0.3, '[]'):
        hook.before_val(runner)
        (tmp_path / 'last.bbox.json').write_text(content)
        best['best_score'] = max(score, best.get('best_score', 0))
        hook.after_val_epoch(runner, dict(mAP=score))
    assert (tmp_path / 'best.bbox.json').read_text() == 'broken'
    hook.after_train(runner)
    assert said[0].startswith('No plots of the validation: JSONDecodeErr')
