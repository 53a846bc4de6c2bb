"""Reading images so that none is wrong without a word.

Depending on its version OpenCV decodes a truncated JPEG to a picture that is
grey below the cut, and MMDetection trains on it. What is not read whole or
does not fit its record is an error here that names both.
"""

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from mmengine import fileio

from .coco_stream import DatasetError

_JPEG, _PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
_SOS, _EOI = 0xDA, b'\xff\xd9'
_FORMATS = 'JPEG, PNG, WebP, BMP or TIFF of 8 or 16 bits'


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


def is_truncated(content: bytes) -> bool:
    """Whether a JPEG or PNG ends before its end marker.

    Only headers and the tail are looked at. Compressed JPEG data cannot hold
    the end marker, but the header can (in an embedded preview), so it is
    searched behind the header. Bytes after the end marker are legal.
    """
    if content.startswith(_JPEG):
        start = _scan_start(content)
        return start < 0 or content.rfind(_EOI, start) < 0
    if content.startswith(_PNG):
        return content.rfind(b'IEND') < 0
    return False


def decode_image(
    content: bytes,
    path: str,
    size: tuple[int, int] | None = None,
    backend: str = 'cv2',
) -> np.ndarray:
    """Decode an image file to BGR uint8 (H, W, 3).

    16 bits are scaled to 8, grey is repeated, CMYK converted, transparency
    ignored, and the EXIF orientation applied. Where ``size`` fits only the
    picture as it is stored, the boxes were drawn on that and it is not turned.

    Args:
        content: The bytes of the file.
        path: Its name for messages.
        size: (height, width) of the annotation file's record.
        backend: As :func:`mmcv.imfrombytes` takes it.

    Raises:
        DatasetError: The file is empty, truncated, unreadable, or has another
            size than its record.
    """
    if not content:
        raise DatasetError(f'image {path} is empty (0 bytes)')
    if is_truncated(content):
        raise DatasetError(
            f'image {path} is truncated: its {len(content)} bytes end before '
            'the end marker of the format; copy or download it again'
        )
    image = _decode(content, path, 'color', backend)
    if size is None or image.shape[:2] == size:
        return image
    if image.shape[1::-1] == size:
        stored = _decode(content, path, 'color_ignore_orientation', backend)
        if stored.shape[:2] == size:
            return stored
    raise DatasetError(
        f'image {path} is {image.shape[1]} x {image.shape[0]} (width x '
        f'height), but the annotation file says {size[1]} x {size[0]}'
    )


def _decode(content: bytes, path: str, flag: str, backend: str) -> np.ndarray:
    try:
        image = mmcv.imfrombytes(content, flag=flag, backend=backend)
    except (cv2.error, OSError, ValueError) as error:
        raise DatasetError(
            f'image {path} cannot be decoded (known: {_FORMATS}): {error}'
        ) from error
    if image is None:
        raise DatasetError(
            f'image {path} cannot be decoded (known: {_FORMATS}); it starts '
            f'with {content[:8]!r}'
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DatasetError(
            f'image {path} was decoded to {image.dtype} {image.shape} where '
            'uint8 (H, W, 3) is needed'
        )
    return image


@TRANSFORMS.register_module()
class LoadImageStrict(LoadImageFromFile):
    """``LoadImageFromFile`` that fails on what it cannot read whole.

    Takes the same arguments; ``color_type`` must be ``'color'``, and
    ``ignore_empty`` only excuses a file that is not there.

    Required keys: ``img_path``; ``height`` and ``width`` where the data set
    gives them, which the image is compared with.

    Added keys: ``img`` BGR (H, W, 3), ``img_shape``, ``ori_shape`` (H, W).
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.color_type != 'color':
            raise ValueError(
                "color_type must be 'color', the 3-channel BGR image that "
                f'detectors take, but got {self.color_type!r}'
            )

    def transform(self, results: dict) -> dict | None:
        path = results['img_path']
        try:
            content = fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            if self.ignore_empty:
                return None
            raise DatasetError(
                f'image {path}{_record(results)} cannot be read: '
                f'{error.strerror or error}'
            ) from error
        size = None
        if 'height' in results and 'width' in results:
            size = results['height'], results['width']
        image = decode_image(
            content, f'{path}{_record(results)}', size, self.imdecode_backend
        )
        if self.to_float32:
            image = image.astype(np.float32)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def _record(results: dict) -> str:
    return f' (image id {results["img_id"]})' if 'img_id' in results else ''
