import hashlib
import json
import math
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from mmdet_shufflenetv2.data.drawing import (
    SHAPES,
    Placement,
    RandomSource,
    rasterize,
)
from mmdet_shufflenetv2.data.png import encode_png
from mmdet_shufflenetv2.data.scenes import (
    CLASSES,
    Canvas,
    SceneSpec,
    draw_scene,
)
from mmdet_shufflenetv2.data.shapes import ShapesSpec, generate
from pycocotools.coco import COCO

from mmdet_shufflenetv2.data import shape_crops, shapes

#: SHA-256 over the names and bytes of all files of SMALL. It changes only
#: together with shapes.VERSION.
GOLDEN = '8b60612df6f6b2ccd6d0ec85e5ba214d70259820cf9260a2b956119e85cc3714'
SMALL = ShapesSpec(3, 2, 5, SceneSpec(width=96, height=64))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes') / 'set'
    # Enough pictures that every kind of content is among them.
    assert generate(folder, ShapesSpec(train=120, val=20, seed=1))
    return folder


@pytest.fixture(scope='module')
def coco(folder):
    return COCO(folder / 'annotations' / 'instances_train.json')


def tree_digest(folder):
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def test_same_bytes_on_every_machine(tmp_path):
    generate(tmp_path / 'set', SMALL)
    assert tree_digest(tmp_path / 'set') == GOLDEN


def test_command_writes_the_same_bytes(tmp_path, capsys):
    options = ['--train', '3', '--val', '2', '--seed', '5', '--size', '96x64']
    shapes.main([str(tmp_path / 'set'), *options])
    assert tree_digest(tmp_path / 'set') == GOLDEN
    assert '3 + 2 images of 6 classes, written' in capsys.readouterr().out
    shapes.main([str(tmp_path / 'set'), *options])
    assert 'already complete' in capsys.readouterr().out


def test_another_seed_gives_other_pictures(tmp_path):
    for seed in (1, 2):
        generate(tmp_path / str(seed), ShapesSpec(1, 1, seed, SMALL.scene))
    first, second = (
        (tmp_path / str(seed) / 'train' / '000000.png').read_bytes()
        for seed in (1, 2)
    )
    assert first != second


def test_splits_share_no_picture_and_no_id(folder):
    digests, ids = [], []
    for split in ('train', 'val'):
        digests += [p.read_bytes() for p in (folder / split).iterdir()]
        text = (folder / f'annotations/instances_{split}.json').read_text()
        ids += [image['id'] for image in json.loads(text)['images']]
    assert len(digests) == len(set(digests)) == 140
    assert len(ids) == len(set(ids)) == 140


def test_images_are_read_at_the_listed_size(folder, coco):
    for image in coco.dataset['images']:
        path = folder / 'train' / image['file_name']
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (image['height'], image['width'], 3)


def test_png_holds_the_drawn_pixels():
    picture = draw_scene(RandomSource(0), SceneSpec()).image
    data = np.frombuffer(encode_png(picture), np.uint8)
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert np.array_equal(read[..., ::-1], picture)


def test_box_and_area_are_those_of_the_mask(coco):
    for ann in coco.dataset['annotations']:
        mask = coco.annToMask(ann)
        assert mask.sum() == ann['area'] > 0
        rows, columns = np.nonzero(mask)
        x, y, width, height = ann['bbox']
        assert (x, y) == (columns.min(), rows.min())
        assert x + width == columns.max() + 1
        assert y + height == rows.max() + 1


def test_masks_of_a_picture_do_not_overlap(coco):
    for image in coco.dataset['images']:
        anns = coco.imgToAnns[image['id']]
        if anns:
            assert sum(coco.annToMask(a).astype(int) for a in anns).max() == 1


def test_set_has_every_kind_of_content(coco):
    anns = coco.dataset['annotations']
    areas = np.array([a['area'] for a in anns if not a['iscrowd']])
    assert (areas < 32**2).sum() > 50
    assert ((areas >= 32**2) & (areas < 96**2)).sum() > 50
    assert (areas >= 96**2).sum() > 5
    assert {a['category_id'] for a in anns} == set(range(1, 7))
    assert sum(a['iscrowd'] for a in anns) > 2
    assert any(not coco.imgToAnns[i] for i in coco.imgs)
    assert [c['name'] for c in coco.dataset['categories']] == list(CLASSES)


def canvas_with_circle(min_visible):
    canvas = Canvas(RandomSource(0), SceneSpec(min_visible=min_visible))
    owner = canvas.add_owner(CLASSES.index('circle'), iscrowd=False)
    assert canvas.try_paint(owner, Placement(100, 90, 30, 0.0))
    return canvas


@pytest.mark.parametrize('shift, fits', [(0, False), (15, False), (40, True)])
def test_object_is_hidden_only_in_part(shift, fits):
    canvas = canvas_with_circle(min_visible=0.6)
    before = canvas.picture.copy(), canvas.owner.copy()
    other = canvas.add_owner(CLASSES.index('square'), iscrowd=False)
    place = Placement(100 + shift, 90, 32, 0.0)
    assert canvas.try_paint(other, place) == fits
    if fits:
        first, second = canvas.scene().instances
        share = first.mask.sum() / (math.pi * 30**2)
        assert 0.6 <= share < 0.9
        assert second.mask.sum() > 2000
    else:
        assert np.array_equal(canvas.picture, before[0])
        assert np.array_equal(canvas.owner, before[1])


def test_drawn_area_is_that_of_the_shape():
    for name, shape in SHAPES.items():
        patch = rasterize(name, Placement(80, 70, 50, 0.13, 0.8), 150, 160)
        area = shape.area * 50**2 * 0.8
        assert patch.coverage.sum() == pytest.approx(area, rel=0.02), name


def test_shape_off_the_picture_has_no_patch():
    assert rasterize('circle', Placement(-50, 10, 20, 0.0), 64, 64) is None


def test_empty_rate_and_crowd_rate_are_obeyed():
    empty = SceneSpec(empty_rate=1.0)
    crowd = SceneSpec(empty_rate=0.0, crowd_rate=1.0)
    for index in range(5):
        assert draw_scene(RandomSource(index), empty).instances == []
        scene = draw_scene(RandomSource(index), crowd)
        assert [i.iscrowd for i in scene.instances].count(True) == 1


def test_complete_folder_is_left_alone(tmp_path):
    generate(tmp_path / 'set', SMALL)
    marker = (tmp_path / 'set' / 'manifest.json').stat().st_mtime_ns
    assert not generate(tmp_path / 'set', SMALL)
    assert (tmp_path / 'set' / 'manifest.json').stat().st_mtime_ns == marker


@pytest.mark.parametrize(
    'spoil', ['val/000001.png', 'annotations/instances_val.json']
)
def test_incomplete_folder_is_made_again(tmp_path, spoil):
    generate(tmp_path / 'set', SMALL)
    (tmp_path / 'set' / spoil).unlink()
    assert generate(tmp_path / 'set', SMALL)
    assert tree_digest(tmp_path / 'set') == GOLDEN


def test_cut_file_is_noticed(tmp_path):
    generate(tmp_path / 'set', SMALL)
    path = tmp_path / 'set' / 'train' / '000000.png'
    path.write_bytes(path.read_bytes()[:-20])
    assert generate(tmp_path / 'set', SMALL)
    assert tree_digest(tmp_path / 'set') == GOLDEN


def test_other_options_replace_the_folder(tmp_path):
    generate(tmp_path / 'set', ShapesSpec(5, 1, 5, SMALL.scene))
    assert generate(tmp_path / 'set', SMALL)
    assert tree_digest(tmp_path / 'set') == GOLDEN


def test_interruption_leaves_the_old_folder_and_no_rest(tmp_path, monkeypatch):
    generate(tmp_path / 'set', SMALL)

    def stop(image):
        raise KeyboardInterrupt

    monkeypatch.setattr(shapes, 'encode_png', stop)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / 'set', ShapesSpec(4, 2, 5, SMALL.scene))
    assert tree_digest(tmp_path / 'set') == GOLDEN
    assert os.listdir(tmp_path) == ['set']


def test_rest_of_a_killed_process_is_removed(tmp_path):
    gone = subprocess.run(
        [sys.executable, '-c', 'import os; print(os.getpid())'],
        capture_output=True,
        text=True,
        check=True,
    )
    rest = tmp_path / f'.set.partial-{int(gone.stdout)}'
    (rest / 'train').mkdir(parents=True)
    generate(tmp_path / 'set', SMALL)
    assert os.listdir(tmp_path) == ['set']


def test_foreign_folder_is_not_touched(tmp_path):
    (tmp_path / 'set').mkdir()
    (tmp_path / 'set' / 'thesis.tex').write_text('x')
    with pytest.raises(ValueError, match='holds something else'):
        generate(tmp_path / 'set', SMALL)
    assert os.listdir(tmp_path / 'set') == ['thesis.tex']


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(train=0), 'train must be at least 1, but got 0'),
        (dict(seed=-1), 'seed must be at least 0, but got -1'),
    ],
)
def test_bad_spec_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShapesSpec(**arguments)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(width=10), 'width must be at least 64'),
        (dict(objects=(4, 2)), 'objects must be'),
        (dict(empty_rate=1.5), r'empty_rate must lie in \[0, 1\]'),
    ],
)
def test_bad_scene_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SceneSpec(**arguments)


def test_bad_size_is_refused_by_the_command(tmp_path, capsys):
    with pytest.raises(SystemExit):
        shapes.main([str(tmp_path / 'set'), '--size', '256'])
    assert 'must be WIDTHxHEIGHT' in capsys.readouterr().err


def test_file_in_the_place_of_a_folder_is_one_message(tmp_path, capsys):
    plain = tmp_path / 'plain'
    plain.touch()
    for out_dir, message in (
        (plain, 'holds something else'),
        (plain / 'set', 'File exists'),
    ):
        with pytest.raises(SystemExit) as stopped:
            shapes.main([str(out_dir), '--train', '1', '--val', '1'])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    assert plain.is_file()


@pytest.mark.parametrize('command', [shapes, shape_crops])
def test_ctrl_c_leaves_nothing_behind(command, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, 'encode_png', interrupted)
    with pytest.raises(SystemExit) as stopped:
        command.main([str(tmp_path / 'set')])
    assert stopped.value.code == 130
    assert 'stopped' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
