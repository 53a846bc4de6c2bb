"""Every image gets its own picture, and class names are drawn as they are."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from PIL import Image

from mmdet_shufflenetv2.engine.pictures import (
    PicturesHook,
    literal_text,
    picture_name,
)

# isort: split
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer

# Images by name, and what is drawn on: two lie turned in their files.
IMAGES = {
    'day/1.jpg': (40, 60),
    'night/1.jpg': (40, 60),
    'night/turned.jpg': (60, 40),
    'night/as_stored.jpg': (40, 60),
    'moving.gif': (40, 60),
}


class Data(list):
    get_data_info = list.__getitem__


def sample(path, size, label=0):
    instances = InstanceData(
        bboxes=torch.tensor([[5.0, 5.0, 30.0, 30.0]]),
        labels=torch.tensor([label]),
        scores=torch.tensor([0.9]),
    )
    return DetDataSample(
        metainfo=dict(img_path=str(path), ori_shape=size),
        pred_instances=instances,
    )


@pytest.fixture
def hook_and_runner(tmp_path):
    source, out_dir = tmp_path / 'images', tmp_path / 'pictures'
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in IMAGES:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        turned = name.endswith(('turned.jpg', 'stored.jpg'))
        Image.new('RGB', (60, 40), 'red').save(
            source / name, exif=exif if turned else Image.Exif()
        )
    data = Data(dict(img_path=str(source / name)) for name in IMAGES)
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = dict(classes=('$x^$',), palette='random')
    hook = PicturesHook(str(out_dir), 'add_datasample', name='', draw_gt=False)
    runner = SimpleNamespace(
        visualizer=visualizer, test_dataloader=SimpleNamespace(dataset=data)
    )
    return hook, runner, source, out_dir


def test_images_of_one_name_get_a_picture_each_as_the_network_saw_them(
    hook_and_runner,
):
    hook, runner, source, out_dir = hook_and_runner
    hook.before_test(runner)
    outputs = [sample(source / n, size) for n, size in IMAGES.items()]
    hook.after_test_iter(runner, 0, None, outputs)
    for name, size in IMAGES.items():
        picture = cv2.imread(str(out_dir / picture_name(name)))
        assert picture.shape[:2] == size, name
        assert (picture[-3, -3] // 64).tolist() == [0, 0, 3], 'red in BGR'


def drawn(class_name, tmp_path):
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = dict(classes=(class_name,), palette='random')
    out_file = str(tmp_path / 'picture.png')
    with literal_text():
        visualizer.add_datasample(
            '',
            np.zeros((80, 320, 3), np.uint8),
            sample('x.jpg', (80, 320)),
            out_file=out_file,
        )
    return cv2.imread(out_file)


@pytest.mark.parametrize('name', ['$x^$', r'$\alpha$', 'two\nlines', 'žluť'])
def test_class_names_are_drawn_letter_by_letter(name, tmp_path):
    picture = drawn(name, tmp_path)
    for letter in name[0], name[-1]:
        without = drawn(name.replace(letter, ' '), tmp_path)
        assert not np.array_equal(picture, without), letter


def test_pictures_have_a_suffix_that_can_be_written():
    assert picture_name('a.JPG') == 'a.JPG'
    assert picture_name('photo') == 'photo.png'
    assert picture_name('b.gif') == 'b.gif.png'
