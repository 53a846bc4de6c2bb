"""Decoding image files, with an error or warning for any that is damaged."""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..deploy.runtime import FORMATS, completed, is_truncated
from .table import DatasetError

_ORIENTATION = 0x112
_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def image_size(
    path: str | os.PathLike, exif: str = 'apply'
) -> tuple[int, int]:
    """Read width and height from the header, swapped if EXIF turns them."""
    width, height, orientation = image_header(path)
    turned = exif == 'apply' and orientation >= 5
    return (height, width) if turned else (width, height)


def image_header(path: str | os.PathLike) -> tuple[int, int, int]:
    """Read stored width, stored height and EXIF orientation (1 for none)."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
            valid = isinstance(orientation, int) and 1 <= orientation <= 8
            return *image.size, orientation if valid else 1
    except Exception as error:  # Pillow's decoders raise many types.
        raise DatasetError(f'image {path} cannot be read: {error}') from error


def decode_image(
    content: bytes,
    path: str,
    size: tuple[int, int] | None,
    exif: str,
    warn: Callable[[str], object] = str,
) -> np.ndarray:
    """Decode an image file to BGR uint8 (H, W, 3).

    16 bits are scaled to 8, grey is repeated, CMYK converted, transparency
    ignored, and the EXIF orientation applied. If ``size`` only fits the stored
    pixels, the boxes refer to those, and the image is not turned.

    Args:
        content: The bytes of the file.
        path: The file's name for messages.
        size: (height, width) according to the annotation; None if unknown.
        exif: 'apply', or 'ignore' to never turn the image.
        warn: Called with a message for lost rows or an unusual bit depth.

    Raises:
        DatasetError: The file is empty, unreadable or too short, or does not
            have the given size.
    """
    if not content:
        raise DatasetError(f'image {path} is empty (0 bytes)')
    if is_truncated(content):
        try:
            content, warning = completed(content, _stored_pixels)
        except ValueError as error:
            raise DatasetError(f'image {path} is {error}') from error
        warn(f'image {path} {warning}')
    turn = exif == 'apply'
    image = _decode(content, path, turn, warn)
    if size is None or image.shape[:2] == size:
        return image
    if turn and image.shape[1::-1] == size:
        stored = _decode(content, path, False, warn)
        if stored.shape[:2] == size:
            return stored
    raise DatasetError(
        f'image {path} is {image.shape[1]} x {image.shape[0]} (width x '
        f'height), but its annotation says {size[1]} x {size[0]}'
    )


def _stored_pixels(content: bytes) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(content, np.uint8), _STORED)


def _decode(content: bytes, path: str, turn: bool, warn) -> np.ndarray:
    flags = cv2.IMREAD_ANYDEPTH | (cv2.IMREAD_COLOR if turn else _STORED)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        image = None
    if image is not None and image.dtype == np.uint16:
        # Cameras store 12 bits in 16: infer the depth from the maximum.
        highest = int(image.max())
        bits = next(bits for bits in (8, 12, 14, 16) if highest < 2**bits)
        if bits < 16:
            warn(
                f'image {path} has 16 bits per channel, but its maximum '
                f'{highest} needs only {bits}; scaled from {bits} bits'
            )
        image = (image >> (bits - 8)).astype(np.uint8)
    if image is None or image.dtype != np.uint8:
        raise DatasetError(
            f'image {path} cannot be decoded: expected JPEG, PNG, WebP, BMP '
            f'or TIFF of 8 to 16 bits; it starts with {content[:8]!r}'
        )
    return image


def broken(
    path: str,
    size: tuple[int, int] | None = None,
    exif: str = 'apply',
    warn: Callable[[str], object] = str,
) -> str | None:
    """Decode an image file; return what is wrong with it, if anything."""
    try:
        decode_image(Path(path).read_bytes(), path, size, exif, warn)
    except (OSError, DatasetError) as error:
        return str(error)
    return None
