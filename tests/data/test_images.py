import io

import cv2
import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from PIL import Image

from mmdet_shufflenetv2.data import dataset as registered
from mmdet_shufflenetv2.data.dataset import (
    LoadImageStrict,
    use_strict_loader,
)
from mmdet_shufflenetv2.data.images import (
    decode_image,
    image_header,
    is_truncated,
)
from mmdet_shufflenetv2.data.table import DatasetError

HEIGHT, WIDTH = 48, 64
ORIENTATION_TAG = 0x112


def picture():
    """A smooth BGR picture that survives JPEG, other in every corner."""
    corners = np.random.default_rng(0).integers(0, 255, (3, 4, 3), np.uint8)
    return cv2.resize(corners, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def encode(image, suffix, **options):
    """Encode with Pillow, whose own array order is RGB."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, suffix, **options)
    return stream.getvalue()


def rgb():
    return np.ascontiguousarray(picture()[..., ::-1])


def load(path, **record):
    results = {'img_path': str(path), **record}
    return LoadImageStrict()(results)['img']


def save(tmp_path, content, name='x.jpg'):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def difference(image, expected):
    assert image.shape == expected.shape
    assert image.dtype == np.uint8
    return np.abs(image.astype(int) - expected.astype(int)).max()


def test_is_registered_and_equals_the_stock_transform(tmp_path):
    path = save(tmp_path, encode(rgb(), 'JPEG', quality=90))
    results = {'img_path': str(path)}
    strict = TRANSFORMS.build(dict(type='LoadImageStrict'))(dict(results))
    stock = TRANSFORMS.build(dict(type='LoadImageFromFile'))(dict(results))
    assert np.array_equal(strict.pop('img'), stock.pop('img'))
    assert strict == stock
    as_float = LoadImageStrict(to_float32=True)(dict(results))['img']
    assert as_float.dtype == np.float32


@pytest.mark.parametrize(
    'content, tolerance',
    [
        (encode(rgb(), 'PNG'), 0),
        (encode(rgb(), 'BMP'), 0),
        (encode(rgb(), 'TIFF'), 0),
        (encode(rgb(), 'JPEG', quality=95), 24),
        (encode(rgb(), 'JPEG', quality=95, progressive=True), 24),
        (encode(rgb(), 'WEBP', lossless=True), 0),
    ],
    ids=['png', 'bmp', 'tiff', 'jpeg', 'progressive', 'webp'],
)
def test_formats_are_read(tmp_path, content, tolerance):
    image = load(save(tmp_path, content))
    assert difference(image, picture()) <= tolerance


def with_orientation(image, orientation):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return encode(image, 'JPEG', quality=95, exif=exif)


@pytest.mark.parametrize(
    'orientation, turn',
    [
        (3, lambda x: x[::-1, ::-1]),
        (6, lambda x: np.rot90(x, -1)),
        (8, lambda x: np.rot90(x)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, turn):
    path = save(tmp_path, with_orientation(rgb(), orientation))
    expected = turn(picture())
    height, width = expected.shape[:2]
    assert difference(load(path), expected) <= 24
    image = load(path, height=height, width=width)
    assert difference(image, expected) <= 24


def test_image_annotated_as_stored_is_not_turned(tmp_path):
    path = save(tmp_path, with_orientation(rgb(), 6))
    image = load(path, height=HEIGHT, width=WIDTH)
    assert difference(image, picture()) <= 24


def noise(height=HEIGHT):
    """A picture whose file is mostly compressed data."""
    return np.random.default_rng(0).integers(
        0, 255, (height, WIDTH, 3), np.uint8
    )


@pytest.mark.parametrize('share', [0.02, 0.3, 0.6])
@pytest.mark.parametrize('suffix', ['JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF'])
def test_file_of_which_much_is_lost_is_an_error(tmp_path, suffix, share):
    content = encode(noise(), suffix)
    path = save(tmp_path, content[: int(len(content) * share)])
    with pytest.raises(DatasetError, match=r'x\.jpg'):
        load(path)


@pytest.mark.parametrize('progressive', [False, True])
@pytest.mark.parametrize('cut', [1, 2, 40, 200])
def test_jpeg_without_its_last_bytes_is_read_with_a_warning(progressive, cut):
    """It ended a run after minutes, though every viewer shows it."""
    content = encode(noise(), 'JPEG', quality=90, progressive=progressive)
    whole = decode_image(content, 'x')
    said = []
    image = decode_image(content[:-cut], 'x', warn=said.append)
    assert 'x lacks its last bytes' in said[0]
    assert len(said) == 1
    rows = HEIGHT // 2
    if not progressive:
        assert np.array_equal(image[:rows], whole[:rows])
    assert image.shape == whole.shape


def test_cut_image_is_named_once(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        registered, 'print_log', lambda text, *_: said.append(text)
    )
    path = save(tmp_path, encode(noise(), 'JPEG')[:-5])
    for _ in range(3):
        load(path)
    assert len(said) == 1
    assert str(path) in said[0]


def test_broken_image_is_passed_over_where_the_data_set_says_so(tmp_path):
    path = save(tmp_path, b'no picture')
    results = {'img_path': str(path), 'broken': 'skip'}
    assert LoadImageStrict()(results) is None
    results.update(broken='blank', height=5, width=7)
    blank = LoadImageStrict()(results)
    assert blank['img_shape'] == (5, 7)
    assert not blank['img'].any()
    with pytest.raises(DatasetError):
        LoadImageStrict()({'img_path': str(path)})


@pytest.mark.parametrize('progressive', [False, True])
def test_cut_jpeg_is_known_without_decoding(progressive):
    content = encode(rgb(), 'JPEG', quality=95, progressive=progressive)
    assert not is_truncated(content)
    assert not is_truncated(content + b'\0' * 50)
    for end in (4, 30, len(content) // 2, len(content) - 2):
        assert is_truncated(content[:end])
    # A download that reserved its space first.
    assert is_truncated(content[: len(content) // 2] + b'\0' * 5000)


def test_end_marker_of_a_preview_does_not_hide_a_cut():
    preview = b'Exif\0\0' + encode(rgb(), 'JPEG')
    segment = b'\xff\xe1' + (len(preview) + 2).to_bytes(2, 'big') + preview
    content = encode(rgb(), 'JPEG', quality=95)
    content = content[:2] + segment + content[2:]
    assert not is_truncated(content)
    assert is_truncated(content[: -len(content) // 5])


@pytest.mark.parametrize('bits', [8, 12, 14, 16])
def test_16_bit_files_are_scaled_by_the_bits_that_are_used(bits):
    """12-bit data in a 16-bit PNG became nearly black."""
    expected = picture()
    expected[0, 0] = 255
    deep = expected.astype(np.uint16) << (bits - 8)
    said = []
    content = cv2.imencode('.png', deep)[1].tobytes()
    image = decode_image(content, 'x', warn=said.append)
    assert difference(image, expected) == 0
    assert len(said) == (bits < 16)


def test_stored_pixels_are_taken_where_the_boxes_are_on_them(tmp_path):
    path = save(tmp_path, with_orientation(rgb(), 3))
    stored = load(path, exif='ignore')
    assert difference(stored, picture()) <= 24
    flag = LoadImageStrict(color_type='color_ignore_orientation')
    assert np.array_equal(flag({'img_path': str(path)})['img'], stored)
    assert image_header(path) == (WIDTH, HEIGHT, 3)


def test_name_of_the_stock_transform_can_mean_this_one():
    module = TRANSFORMS.get('LoadImageFromFile')
    try:
        use_strict_loader()
        loader = TRANSFORMS.build(dict(type='LoadImageFromFile'))
        assert isinstance(loader, LoadImageStrict)
    finally:
        TRANSFORMS.register_module(
            name='LoadImageFromFile', module=module, force=True
        )


@pytest.mark.parametrize(
    'content, message',
    [
        (b'', r'is empty \(0 bytes\)'),
        (b'hello world, no image', 'cannot be decoded'),
        (b'\x00' * 500, 'cannot be decoded'),
    ],
)
def test_unreadable_file_is_an_error_naming_file_and_record(
    tmp_path, content, message
):
    with pytest.raises(DatasetError, match=message) as error:
        load(save(tmp_path, content), img_id=77)
    assert str(tmp_path / 'x.jpg') in str(error.value)
    assert '(image id 77)' in str(error.value)


def test_absent_file_is_named_unless_excused(tmp_path):
    results = {'img_path': str(tmp_path / 'gone.jpg'), 'img_id': 5}
    with pytest.raises(DatasetError, match=r'gone\.jpg \(image id 5\) cannot'):
        LoadImageStrict()(results)
    assert LoadImageStrict(ignore_empty=True)(results) is None


def test_size_that_is_not_that_of_the_record_is_an_error(tmp_path):
    path = save(tmp_path, encode(rgb(), 'PNG'))
    with pytest.raises(DatasetError, match=r'64 x 48 .* says 63 x 48'):
        load(path, height=48, width=63)
    with pytest.raises(DatasetError, match=r'64 x 48 .* says 48 x 64'):
        load(path, height=64, width=48)
