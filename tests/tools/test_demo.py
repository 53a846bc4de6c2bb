"""Which images and devices ``tools/demo.py`` takes."""

import pytest

from mmdet_shufflenetv2 import cli
from mmdet_shufflenetv2.cli import demo
from mmdet_shufflenetv2.errors import UserError


def test_images_are_never_overwritten_by_their_pictures(tmp_path):
    image = tmp_path / 'a.jpg'
    image.touch()
    for source in image, tmp_path:
        for out_dir in tmp_path, tmp_path / 'b' / '..':
            with pytest.raises(UserError, match='must not be the folder'):
                demo.find_images(str(source), str(out_dir))
        assert demo.find_images(str(source), 'elsewhere') == [image]


def test_pictures_of_an_earlier_run_are_no_images(tmp_path):
    out_dir = tmp_path / 'drawn'
    out_dir.mkdir()
    for folder in tmp_path, out_dir:
        (folder / 'a.jpg').touch()
    found = demo.find_images(str(tmp_path), str(out_dir))
    assert found == [tmp_path / 'a.jpg']


def test_device_that_is_not_there_is_named():
    with pytest.raises(UserError, match='--device no_such_device'):
        demo.require_device('no_such_device')
    demo.require_device('cpu')


def test_classifier_is_refused_with_the_command_that_tests_it(
    root, tmp_path, capsys
):
    image = tmp_path / 'a.jpg'
    image.touch()
    config = root / 'configs/demo/pretrain_shufflenetv2_shapes.py'
    with pytest.raises(SystemExit):
        cli.main('demo', [str(image), str(config), 'a.pth'])
    error = capsys.readouterr().err
    assert f'{config} is a classifier' in error
    assert 'tools/test.py CONFIG CKPT --eval error' in error
