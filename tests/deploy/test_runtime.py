"""The runner of exported files: results, hostile input, no PyTorch."""

import copy
import os
import shutil
import subprocess
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from trained import build, save

from mmdet_shufflenetv2.cli import main
from mmdet_shufflenetv2.data.images import broken
from mmdet_shufflenetv2.data.listing import is_image
from mmdet_shufflenetv2.deploy import detector as checkpoints
from mmdet_shufflenetv2.deploy import runtime
from mmdet_shufflenetv2.engine.weights import load_detector, read_config
from mmdet_shufflenetv2.errors import UserError

onnx = pytest.importorskip('onnx', reason='needs onnx: pip install .[export]')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')


@pytest.fixture(scope='module')
def folder(root, tmp_path_factory):
    """A checkpoint, the file exported from it, and a photo."""
    folder = tmp_path_factory.mktemp('runtime')
    model, cfg = build(root / 'configs/lighthead_shufflenetv2_custom.py')
    save(model, cfg, folder / 'best.pth')
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3))
    image = noise.repeat(8, 0).repeat(8, 1).astype(np.uint8)
    Image.fromarray(image).save(folder / 'photo.png')
    checkpoint, output = str(folder / 'best.pth'), str(folder / 'model.onnx')
    options = ['--image-size', '128x96', '--batch', '2', '--output', output]
    main('export', [checkpoint, *options])
    return folder


@pytest.fixture(scope='module')
def detector(folder):
    return runtime.Detector(folder / 'model.onnx', threads=1)


@pytest.fixture(scope='module')
def photo(folder):
    return cv2.imread(str(folder / 'photo.png'))


def assert_same(one, other):
    np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    assert one.names == other.names


def test_path_array_and_pillow_image_give_the_same(folder, detector, photo):
    found = detector(folder / 'photo.png')
    assert len(found) > 10
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.size == (128, 96)
    assert found.source == str(folder / 'photo.png')
    assert set(found.names) <= set(detector.classes)
    assert (np.diff(found.scores) <= 0).all()
    assert_same(found, detector(photo))
    assert_same(found, detector(Image.open(folder / 'photo.png')))


def test_checkpoint_and_file_give_the_same(folder, detector, photo):
    size = {'test_dataloader.dataset.pipeline.1.scale': (128, 96)}
    options = dict(device='cpu', cfg_options=size)
    checkpoint = checkpoints.Detector(folder / 'best.pth', **options)
    assert_same(detector(photo), checkpoint(photo))
    assert_same(detector(photo), copy.copy(checkpoint)(photo))
    exported = checkpoints.Detector(folder / 'model.onnx')
    assert_same(detector(photo), exported(photo))


def test_settings_of_a_checkpoint_are_its_own(folder, photo):
    """Its padding is that of training; the caller's config stays as it is."""
    path = folder / 'best.pth'
    cfg = load_detector(path).cfg
    before = cfg.pretty_text
    for step in 1, 64:
        options = {'model.data_preprocessor.pad_size_divisor': step}
        options['test_dataloader.dataset.pipeline.1.scale'] = 100, 97
        detector = checkpoints.Detector(
            path, cfg, device='cpu', cfg_options=options
        )
        canvas = detector.canvas(detector.prepare(photo))
        assert canvas == ((75, 100) if step == 1 else (128, 128))
    assert cfg.pretty_text == before


def test_video_gives_a_result_for_every_frame(detector, photo, tmp_path):
    path = tmp_path / 'clip.avi'
    codec = cv2.VideoWriter.fourcc(*'MJPG')
    video = cv2.VideoWriter(str(path), codec, 5, photo.shape[1::-1])
    for _ in range(3):
        video.write(photo)
    video.release()
    assert [found.size for found in detector(path)] == [(128, 96)] * 3
    (tmp_path / 'none.mp4').touch()
    with pytest.raises(runtime.ImageError, match=r'none\.mp4 cannot be open'):
        detector(tmp_path / 'none.mp4')


def test_camera_is_only_streamed(detector):
    with pytest.raises(UserError, match='camera 0 never ends: use stream'):
        detector(0)
    with pytest.raises(runtime.ImageError, match='camera -1: expected 0 or'):
        next(detector.stream(-1))


def test_suffixes_that_training_reads_are_found_in_folders():
    known = {*filter(is_image, Image.registered_extensions())}
    assert len(known) > 8
    assert {each for each in known if runtime.IMAGES.fullmatch(each)} == known


def test_lists_and_folders_are_batched_in_order(detector, photo, tmp_path):
    images = [photo, photo[::-1], photo[:, ::-1], photo[:48], photo[:, :50]]
    found = detector(images)
    for one, image in zip(found, images, strict=True):
        assert one.size == image.shape[1::-1]
        assert_same(one, detector(image))
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f'{number}.png'), image)
    (tmp_path / 'notes.txt').write_text('no image')
    for one, other in zip(detector(tmp_path), found, strict=True):
        assert_same(one, other)


def test_concurrent_callers_get_their_own_results(detector, photo):
    images = [np.roll(photo, 8 * turn, axis=1) for turn in range(6)]
    expected = [detector(image) for image in images]
    given = [None] * len(images)

    def call(index):
        for _ in range(3):
            given[index] = detector(images[index])

    with ThreadPoolExecutor(6) as callers:
        list(callers.map(call, range(6)))
    for one, other in zip(given, expected, strict=True):
        assert_same(one, other)


WRITERS = {
    'cmyk.jpg': lambda image: image.convert('CMYK'),
    'grey.png': lambda image: image.convert('L'),
    'palette.png': lambda image: image.convert('P'),
    'alpha.png': lambda image: image.convert('RGBA'),
    'one bit.png': lambda image: image.convert('1'),
    'pixel.png': lambda image: image.crop((0, 0, 1, 1)),
    'line.png': lambda image: image.resize((20000, 1)),
    'column.png': lambda image: image.resize((1, 20000)),
}


@pytest.mark.parametrize('name', WRITERS)
def test_unusual_images_are_read(folder, detector, tmp_path, name):
    image = WRITERS[name](Image.open(folder / 'photo.png'))
    image.save(tmp_path / name)
    found = detector(tmp_path / name)
    assert found.size == image.size
    assert np.isfinite(found.boxes).all()
    assert (found.boxes <= np.tile(found.size, 2) + 1e-3).all()


@pytest.mark.parametrize('bits', [8, 12, 16])
def test_16_bits_are_scaled_by_the_bits_in_use(detector, tmp_path, bits):
    grey = np.random.default_rng(1).integers(0, 256, (96, 128))
    grey[0, 0] = 255
    deep = (grey << (bits - 8)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / 'deep.png')
    expected = detector(grey.astype(np.uint8))
    assert_same(detector(tmp_path / 'deep.png'), expected)
    # Pillow keeps only the upper byte of colours, which is black here.
    colours = np.stack([deep, deep[::-1], deep.T.reshape(deep.shape)], 2)
    for suffix in 'png', 'tif':
        path = tmp_path / f'deep.{suffix}'
        cv2.imwrite(str(path), colours)
        expected = (colours[..., ::-1] >> (bits - 8)).astype(np.uint8)
        assert np.array_equal(runtime.read_image(path)[1], expected)


TURNED = Image.Exif()
TURNED[0x0112] = 6


def test_orientation_of_a_camera_is_applied(folder, detector, tmp_path):
    image = Image.open(folder / 'photo.png')
    image.rotate(90, expand=True).save(tmp_path / 'turned.png', exif=TURNED)
    assert_same(detector(tmp_path / 'turned.png'), detector(image))


@pytest.mark.parametrize(
    'name, content, message',
    [
        ('empty.jpg', b'', r'empty\.jpg: cannot identify'),
        ('text.jpg', b'no image at all', r'text\.jpg: cannot identify'),
        ('absent.jpg', None, r'absent\.jpg: No such file'),
        ('cut.png', 0.5, r'cut\.png: .*truncated'),
        ('header.png', 40, r'header\.png'),
    ],
)
def test_bad_image_is_an_error_that_names_it(
    folder, detector, photo, tmp_path, name, content, message
):
    path = tmp_path / name
    if isinstance(content, int | float):
        whole = (folder / 'photo.png').read_bytes()
        cut = int(content * len(whole)) if content < 1 else content
        content = whole[:cut]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(runtime.ImageError, match=message):
        detector(path)
    # The other images are not affected.
    errors = []
    found = list(detector.stream([photo, path, photo], errors.append))
    assert len(found) == 2
    assert len(errors) == 1


def test_memory_does_not_grow(folder, detector, photo, tmp_path):
    (tmp_path / 'text.png').write_text('no image')
    images = [folder / 'photo.png', photo, tmp_path / 'text.png'] * 10
    megabytes = []
    for _ in range(6):
        list(detector.stream(images, lambda error: None))
        pages = Path('/proc/self/statm').read_text().split()[1]
        megabytes.append(int(pages) * os.sysconf('SC_PAGE_SIZE') / 1e6)
    assert megabytes[-1] - megabytes[1] < 4


def test_jpeg_without_its_last_bytes_is_read(folder, detector, tmp_path):
    """Image viewers show such files, too."""
    whole, cut = tmp_path / 'whole.jpg', tmp_path / 'cut.jpg'
    Image.open(folder / 'photo.png').save(whole)
    cut.write_bytes(whole.read_bytes()[:-20])
    with pytest.warns(UserWarning, match=r'cut\.jpg lacks its last bytes'):
        found = detector(cut)
    assert found.size == (128, 96)
    assert len(found) > 10


@pytest.mark.parametrize('tail', [b'', b'\0' * 5000])
@pytest.mark.parametrize(
    'options', [{}, dict(progressive=True), dict(exif=TURNED)]
)
def test_truncated_jpegs_are_used_if_training_uses_them(
    folder, tmp_path, options, tail
):
    path, used = tmp_path / 'cut.jpg', []
    Image.open(folder / 'photo.png').save(path, quality=95, **options)
    content = path.read_bytes()
    for percent in range(5, 100, 5):
        path.write_bytes(content[: len(content) * percent // 100] + tail)
        used.append(broken(str(path)) is None)
        if used[-1]:
            with pytest.warns(UserWarning, match='lacks its last bytes'):
                runtime.read_image(path)
        else:
            with pytest.raises(runtime.ImageError, match=r'cut\.jpg: trunc'):
                runtime.read_image(path)
    assert {*used} == {True, False}


def test_huge_image_is_refused_before_it_is_decoded(
    detector, tmp_path, monkeypatch
):
    Image.new('1', (20000, 20000)).save(tmp_path / 'bomb.png')
    with pytest.raises(runtime.ImageError, match=r'bomb\.png: .* exceeds'):
        detector(tmp_path / 'bomb.png')
    monkeypatch.setattr(runtime, 'MAX_PIXELS', 100)
    Image.new('1', (20, 20)).save(tmp_path / 'large.png')
    with pytest.raises(runtime.ImageError, match='20 x 20, more'):
        detector(tmp_path / 'large.png')


def test_only_formats_of_photographs_are_opened(detector, tmp_path):
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.jpg', 'EPS')
    with pytest.raises(runtime.ImageError, match=r'a\.jpg: cannot identify'):
        detector(tmp_path / 'a.jpg')


def test_object_without_a_class_name_is_refused(folder, detector, photo):
    few = copy.copy(detector)
    few.classes = few.classes[: detector(photo).labels.max()]
    with pytest.raises(runtime.ModelError, match=r'model\.onnx has \d+ class'):
        few(photo)


@pytest.mark.parametrize('shape', [(8, 8, 4), (0, 8, 3), (2, 8, 8, 3)])
def test_array_of_another_shape_is_refused(detector, shape):
    with pytest.raises(runtime.ImageError, match=r'expected an array \(H, W'):
        detector(np.zeros(shape, np.uint8))


def test_damaged_pillow_image_does_not_stop_the_others(
    folder, detector, photo, tmp_path
):
    content = (folder / 'photo.png').read_bytes()
    (tmp_path / 'cut.png').write_bytes(content[: len(content) // 2])
    errors = []
    images = [Image.open(tmp_path / 'cut.png'), photo]
    (found,) = detector.stream(images, errors.append)
    assert_same(found, detector(photo))
    assert isinstance(errors[0], runtime.ImageError)


def test_options_of_checkpoints_are_refused_for_files(folder):
    with pytest.raises(UserError, match='are for checkpoints'):
        checkpoints.Detector(folder / 'model.onnx', batch=4)


@pytest.mark.parametrize(
    'kind, value',
    [
        ('absent', ''),
        ('cut', ''),
        ('format', 'another'),
        ('classes', '["cell"'),
        ('classes', '"cell"'),
        ('input', '{"order": "rgb"}'),
        ('resize', '[128, 96]'),
        ('resize', '{"width": 0, "height": 96}'),
        ('resize', '{"width": 1280, "height": 960}'),
    ],
)
def test_unreadable_or_foreign_model_is_named(folder, tmp_path, kind, value):
    path = tmp_path / f'{kind}.onnx'
    model = onnx.load(folder / 'model.onnx')
    for each in model.metadata_props:
        if each.key == kind:
            each.value = value
    content = model.SerializeToString()
    if kind != 'absent':
        path.write_bytes(content[: len(content) // (1 + (kind == 'cut'))])
    with pytest.raises(runtime.ModelError, match=f'{path}: '):
        runtime.Detector(path)


ALONE = """
import importlib.util as util, sys
for name in 'torch', 'mmdet', 'mmcv', 'mmengine', 'cv2', 'mmdet_shufflenetv2':
    assert util.find_spec(name) is None, name
import runtime
found = runtime.Detector('model.onnx')('photo.png')
print(len(found), found.names[0], found.scores[0], sep=';')
for name in 'absent.png', 'clip.mp4':
    try:
        runtime.Detector('model.onnx')(name)
    except ValueError as error:
        print(error)
"""
# The only packages on a runner's machine, with their bundled libraries.
NEEDED = (
    *('numpy', 'numpy.libs', 'onnxruntime', 'PIL', 'pillow.libs'),
    *('flatbuffers', 'google', 'packaging', 'coloredlogs', 'humanfriendly'),
)


def test_file_copied_beside_the_model_runs_in_an_environment_of_its_own(
    folder, detector, tmp_path
):
    shutil.copy(runtime.__file__, tmp_path)
    for name in 'model.onnx', 'photo.png':
        shutil.copy(folder / name, tmp_path)
    venv.create(tmp_path / 'venv', symlinks=True)
    packages = next(tmp_path.glob('venv/lib/*/site-packages'))
    source = Path(np.__file__).parents[1]
    for name in NEEDED:
        if (source / name).exists():
            (packages / name).symlink_to(source / name)
    done = subprocess.run(
        [tmp_path / 'venv/bin/python', '-c', ALONE],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    found = detector(folder / 'photo.png')
    count, name, score = first.split(';')
    assert (int(count), name) == (len(found), found.names[0])
    assert float(score) == pytest.approx(found.scores[0], abs=1e-4)
    assert second.startswith('image absent.png: No such file')
    assert third == 'this needs cv2: pip install opencv-python-headless'


def test_config_in_a_checkpoint_is_read_but_never_executed(tmp_path):
    marker = tmp_path / 'ran'
    for meta in (
        {},
        dict(cfg=f"import os\nos.system('touch {marker}')"),
        dict(cfg=f"model = open({str(marker)!r}, 'w')"),
        dict(cfg=f"model = dict(a=__import__('os').system('touch {marker}'))"),
    ):
        torch.save(dict(state_dict={}, meta=meta), tmp_path / 'evil.pth')
        with pytest.raises(UserError, match='contains no readable config'):
            checkpoints.Detector(tmp_path / 'evil.pth')
    assert not marker.exists()


def test_every_kind_of_value_in_a_config_is_read(root):
    cfg = Config.fromfile(root / 'configs/rfcn_shufflenetv2.py')
    parsed = read_config(cfg.pretty_text, 'best.pth')
    assert parsed.to_dict() == cfg.to_dict()


@pytest.mark.parametrize('size', [(97, 61), (640, 479), (7, 500), (1, 1)])
def test_images_are_resized_as_by_opencv(size):
    pixels = np.random.default_rng(0).integers(0, 256, (123, 251, 3))
    pixels = pixels.astype(np.uint8)
    expected = cv2.resize(pixels, size).astype(int)
    difference = np.abs(runtime.resize(pixels, *size) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.01
