"""Which images and devices ``tools/demo.py`` takes."""

import importlib.util
import sys

import pytest

from mmdet_shufflenetv2.engine.run_config import UsageError


@pytest.fixture(scope='module')
def demo(root):
    spec = importlib.util.spec_from_file_location(
        'demo', root / 'tools' / 'demo.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_images_are_never_overwritten_by_their_pictures(demo, tmp_path):
    image = tmp_path / 'a.jpg'
    image.touch()
    for source in image, tmp_path:
        for out_dir in tmp_path, tmp_path / 'b' / '..':
            with pytest.raises(UsageError, match='must not be the folder'):
                demo.find_images(str(source), str(out_dir))
        assert demo.find_images(str(source), 'elsewhere') == [image]


def test_pictures_of_an_earlier_run_are_no_images(demo, tmp_path):
    out_dir = tmp_path / 'drawn'
    out_dir.mkdir()
    for folder in tmp_path, out_dir:
        (folder / 'a.jpg').touch()
    found = demo.find_images(str(tmp_path), str(out_dir))
    assert found == [tmp_path / 'a.jpg']


def test_device_that_is_not_there_is_named(demo):
    with pytest.raises(UsageError, match='--device no_such_device'):
        demo.require_device('no_such_device')
    demo.require_device('cpu')


def test_classifier_is_refused_with_the_command_that_tests_it(
    demo, root, tmp_path, monkeypatch
):
    image = tmp_path / 'a.jpg'
    image.touch()
    config = root / 'configs/demo/pretrain_shufflenetv2_shapes.py'
    command = ['demo', image, config, 'a.pth', '--out-dir', tmp_path / 'b']
    monkeypatch.setattr(sys, 'argv', [str(word) for word in command])
    with pytest.raises(UsageError) as error:
        demo.main()
    assert f'{config} is a classifier' in str(error.value)
    assert 'tools/test.py CONFIG CKPT --eval error' in str(error.value)
