"""Reading image files so that none is wrong without a word."""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from .table import DatasetError

_JPEG, _PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
_SOS, _EOI = 0xDA, b'\xff\xd9'
_FORMATS = 'JPEG, PNG, WebP, BMP or TIFF of 8 to 16 bits'
_ORIENTATION = 0x112
#: A picture that lacks more than this share of its rows is broken.
MAX_LOST = 0.25


def image_size(
    path: str | os.PathLike, exif: str = 'apply'
) -> tuple[int, int]:
    """Width and height by the file's header.

    Args:
        path: The image.
        exif: 'apply' turns them as the EXIF orientation says.

    Raises:
        DatasetError: It is not an image.
    """
    width, height, orientation = image_header(path)
    turned = exif == 'apply' and orientation >= 5
    return (height, width) if turned else (width, height)


def image_header(path: str | os.PathLike) -> tuple[int, int, int]:
    """Stored width, stored height and EXIF orientation (1 for none).

    Raises:
        DatasetError: It is not an image.
    """
    try:
        with Image.open(path) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
            valid = isinstance(orientation, int) and 1 <= orientation <= 8
            return *image.size, orientation if valid else 1
    except (
        OSError,
        ValueError,
        SyntaxError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ) as error:
        if os.path.isfile(path) and not os.path.getsize(path):
            raise DatasetError(f'image {path} is empty (0 bytes)') from error
        raise DatasetError(f'image {path} cannot be read: {error}') from error


def is_truncated(content: bytes) -> bool:
    """Whether a JPEG or PNG ends before its end marker.

    Compressed JPEG data cannot hold the end marker, but the header can (in an
    embedded preview), so it is searched after the header. Bytes after the end
    marker are legal.
    """
    if content.startswith(_JPEG):
        start = _scan_start(content)
        return start < 0 or content.rfind(_EOI, start) < 0
    if content.startswith(_PNG):
        return content.rfind(b'IEND') < 0
    return False


def _scan_start(content: bytes) -> int:
    """Where a JPEG's compressed data begins, or -1 if it never does."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == _SOS:
            return at
        if marker == 0xFF:
            # A fill byte before the marker.
            at += 1
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4], 'big')
    return -1


def decode_image(
    content: bytes,
    path: str,
    size: tuple[int, int] | None = None,
    exif: str = 'apply',
    warn: Callable[[str], None] = lambda message: None,
    decode: Callable[[bytes, bool], np.ndarray] | None = None,
) -> np.ndarray:
    """Decode an image file to BGR uint8 (H, W, 3).

    16 bits are scaled to 8, grey is repeated, CMYK converted, transparency
    ignored, and the EXIF orientation applied. Where ``size`` fits only the
    picture as it is stored, the boxes are on that and it is not turned.

    Args:
        content: The bytes of the file.
        path: Its name for messages.
        size: (height, width) of the annotation's record.
        exif: 'ignore' never turns the picture.
        warn: Called with what was made up for: lost rows, an unusual depth.
        decode: Another decoder, of the bytes and of whether to turn.

    Raises:
        DatasetError: The file is empty, unreadable, lacks more than
            ``MAX_LOST`` of its rows, or has another size than its record.
    """
    if not content:
        raise DatasetError(f'image {path} is empty (0 bytes)')
    if is_truncated(content):
        content = _complete(content, path, warn)
    turn = exif == 'apply'
    image = _decode(content, path, turn, warn, decode)
    if size is None or image.shape[:2] == size:
        return image
    if turn and image.shape[1::-1] == size:
        stored = _decode(content, path, False, warn, decode)
        if stored.shape[:2] == size:
            return stored
    raise DatasetError(
        f'image {path} is {image.shape[1]} x {image.shape[0]} (width x '
        f'height), but its annotation says {size[1]} x {size[0]}'
    )


def _complete(content: bytes, path: str, warn: Callable[[str], None]) -> bytes:
    """A cut JPEG with an end marker, if most of its rows are there.

    Decoders fill what is missing with one colour: rows of it are lost.
    """
    share = 1.0
    if content.startswith(_JPEG):
        # A marker's first byte at the cut would hide the end marker.
        content = content.rstrip(b'\xff') + _EOI
        picture = cv2.imdecode(
            np.frombuffer(content, np.uint8),
            cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
        )
        if picture is not None:
            flat = np.ptp(picture, axis=1).max(axis=1) == 0
            kept = np.flatnonzero(~flat)
            share = 1 - (kept[-1] + 1) / len(flat) if len(kept) else 1.0
    if share > MAX_LOST:
        raise DatasetError(
            f'image {path} is truncated: its {len(content)} bytes end before '
            'the end marker of the format; copy or download it again'
        )
    warn(
        f'image {path} lacks its last bytes; {share:.0%} of its rows are lost'
    )
    return content


def _decode(content, path, turn, warn, decode) -> np.ndarray:
    try:
        if decode is None:
            image = cv2.imdecode(
                np.frombuffer(content, np.uint8),
                cv2.IMREAD_COLOR
                | cv2.IMREAD_ANYDEPTH
                | (0 if turn else cv2.IMREAD_IGNORE_ORIENTATION),
            )
        else:
            image = decode(content, turn)
    except (cv2.error, OSError, ValueError, SyntaxError) as error:
        raise DatasetError(
            f'image {path} cannot be decoded (known: {_FORMATS}): {error}'
        ) from error
    if image is None:
        raise DatasetError(
            f'image {path} cannot be decoded (known: {_FORMATS}); it starts '
            f'with {content[:8]!r}'
        )
    if image.dtype == np.uint16:
        image = _to_8_bits(image, content, path, warn)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DatasetError(
            f'image {path} was decoded to {image.dtype} {image.shape}, '
            'expected uint8 (H, W, 3)'
        )
    return image


def _to_8_bits(image, content, path, warn) -> np.ndarray:
    """Scale by the bits that are used: cameras store 12 of them in 16.

    A PNG may say how many there are; else the brightest pixel does.
    """
    at = content.find(b'sBIT', 0, 200) if content.startswith(_PNG) else -1
    used = content[at + 4] if 0 < at < len(content) - 4 else 0
    if 8 < used <= 16:
        # PNG's writers scale to the full range and keep the count.
        return (image >> 8).astype(np.uint8)
    highest = int(image.max())
    bits = next(bits for bits in (8, 12, 14, 16) if highest < 2**bits)
    if bits < 16:
        warn(
            f'image {path} has 16 bits a value, of which {bits} are used (its '
            f'highest is {highest}); scaled by these'
        )
    return (image >> (bits - 8)).astype(np.uint8)


def broken(path: str, size=None, exif: str = 'apply', warn=lambda _: None):
    """What is wrong with an image file, if anything; decodes it."""
    try:
        decode_image(Path(path).read_bytes(), path, size, exif, warn)
    except (OSError, DatasetError) as error:
        return str(error)
    return None
