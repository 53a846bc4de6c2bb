import io

import cv2
import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from PIL import Image

from mmdet_shufflenetv2.data.dataset import LoadImageStrict, use_strict_loader
from mmdet_shufflenetv2.data.images import decode_image, image_header
from mmdet_shufflenetv2.data.table import DatasetError
from mmdet_shufflenetv2.deploy.runtime import is_truncated

HEIGHT, WIDTH = 48, 64


def picture():
    """A smooth BGR picture that survives JPEG; each corner differs."""
    corners = np.random.default_rng(0).integers(0, 255, (3, 4, 3), np.uint8)
    return cv2.resize(corners, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def noise():
    """A picture whose file is mostly compressed data."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


def encode(image, suffix, **options):
    """Encode BGR with Pillow, whose own array order is RGB."""
    stream = io.BytesIO()
    rgb = np.ascontiguousarray(image[..., ::-1])
    Image.fromarray(rgb).save(stream, suffix, **options)
    return stream.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    return encode(picture(), 'JPEG', quality=95, exif=exif)


def save(tmp_path, content):
    path = tmp_path / 'x.jpg'
    path.write_bytes(content)
    return path


def load(path, **record):
    return LoadImageStrict()({'img_path': str(path), **record})['img']


def difference(image, expected):
    assert image.shape == expected.shape
    assert image.dtype == np.uint8
    return np.abs(image.astype(int) - expected.astype(int)).max()


@pytest.mark.parametrize(
    'suffix, tolerance, options',
    [
        ('PNG', 0, {}),
        ('TIFF', 0, {}),
        ('WEBP', 0, dict(lossless=True)),
        ('JPEG', 24, dict(quality=95)),
        ('JPEG', 24, dict(quality=95, progressive=True)),
    ],
)
def test_format_is_read_and_a_truncated_file_is_an_error(
    tmp_path, suffix, tolerance, options
):
    image = load(save(tmp_path, encode(picture(), suffix, **options)))
    assert difference(image, picture()) <= tolerance
    content = encode(noise(), suffix, **options)
    # A progressive JPEG soon has all rows, with less detail.
    for share in (0.02,) if 'progressive' in options else (0.02, 0.3, 0.6):
        path = save(tmp_path, content[: int(len(content) * share)])
        with pytest.raises(DatasetError, match=r'x\.jpg'):
            load(path)


@pytest.mark.parametrize(
    'orientation, turn',
    [
        (6, lambda x: np.rot90(x, -1)),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_applied_unless_ignored(
    tmp_path, orientation, turn
):
    path = save(tmp_path, turned(orientation))
    expected = turn(picture())
    height, width = expected.shape[:2]
    assert difference(load(path), expected) <= 24
    assert difference(load(path, height=height, width=width), expected) <= 24
    # If the annotation has the stored size, the image is not turned.
    plain = load(path, height=HEIGHT, width=WIDTH)
    assert difference(plain, picture()) <= 24
    stored = load(path, exif='ignore')
    assert difference(stored, picture()) <= 24
    assert image_header(path) == (WIDTH, HEIGHT, orientation)


@pytest.mark.parametrize('progressive', [False, True])
@pytest.mark.parametrize('cut', [1, 200])
def test_jpeg_without_its_last_bytes_is_read_with_a_warning(progressive, cut):
    """It once ended a run after minutes, though every viewer shows it."""
    content = encode(noise(), 'JPEG', quality=90, progressive=progressive)
    whole = decode_image(content, 'x', None, 'apply')
    said = []
    image = decode_image(content[:-cut], 'x', None, 'apply', said.append)
    assert 'x lacks its last bytes' in said[0]
    assert len(said) == 1
    assert image.shape == whole.shape
    if not progressive:
        assert np.array_equal(image[: HEIGHT // 2], whole[: HEIGHT // 2])


def test_broken_image_is_skipped_or_replaced_on_request(tmp_path):
    results = {'img_path': str(save(tmp_path, b'no picture'))}
    assert LoadImageStrict()(results | {'broken': 'skip'}) is None
    blank = LoadImageStrict()(
        results | dict(broken='blank', height=5, width=7)
    )
    assert blank['img_shape'] == (5, 7)
    assert not blank['img'].any()


def test_end_marker_of_a_preview_does_not_hide_truncation():
    preview = b'Exif\0\0' + encode(picture(), 'JPEG')
    segment = b'\xff\xe1' + (len(preview) + 2).to_bytes(2, 'big') + preview
    content = encode(picture(), 'JPEG', quality=95)
    content = content[:2] + segment + content[2:]
    assert not is_truncated(content + b'\0' * 50)
    assert is_truncated(content[: -len(content) // 5])
    # An interrupted download with preallocated space.
    assert is_truncated(content[: -len(content) // 5] + b'\0' * 5000)


@pytest.mark.parametrize('bits', [8, 12, 16])
def test_16_bit_files_are_scaled_from_the_bits_in_use(bits):
    """12-bit data in a 16-bit PNG once became nearly black."""
    expected = picture()
    expected[0, 0] = 255
    deep = expected.astype(np.uint16) << (bits - 8)
    said = []
    content = cv2.imencode('.png', deep)[1].tobytes()
    image = decode_image(content, 'x', None, 'apply', said.append)
    assert difference(image, expected) == 0
    assert len(said) == (bits < 16)


def test_strict_loader_can_replace_the_stock_transform():
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
    'content, record, message',
    [
        (b'', {}, r'is empty \(0 bytes\)'),
        (b'\x00' * 500, {}, 'cannot be decoded'),
        (encode(picture(), 'PNG'), dict(height=48, width=63), 'says 63 x 48'),
        (encode(picture(), 'PNG'), dict(height=64, width=48), 'says 48 x 64'),
        (None, {}, 'cannot be read'),
    ],
)
def test_unreadable_file_is_an_error_naming_file_and_record(
    tmp_path, content, record, message
):
    path = tmp_path / 'x.jpg'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as error:
        load(path, img_id=77, **record)
    assert f'{path} (image id 77)' in str(error.value)
    if content is None:
        loader = LoadImageStrict(ignore_empty=True)
        assert loader({'img_path': str(path)}) is None
