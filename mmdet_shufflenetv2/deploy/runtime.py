"""Run an exported detector with only NumPy, ONNX Runtime and Pillow.

    from mmdet_shufflenetv2.deploy.runtime import Detector
    detector = Detector('model.onnx')
    found = detector('photo.jpg')
    for box, score, name in zip(found.boxes, found.scores, found.names):
        print(name, score, box)

This file does not depend on the rest of the package: copy it next to the model
and use ``from runtime import Detector``. Calling one detector from several
threads at once is safe.
"""

import importlib
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

try:
    from ..errors import UserError
except ImportError:  # Copied next to a model, without the package.
    UserError = ValueError

# Increment the number when the layout of the file or its metadata changes.
FORMAT = 'mmdet_shufflenetv2 detector 1'
KEYS = 'format', 'classes', 'input', 'resize', 'thresholds', 'export'
# The rt_info section of an OpenVINO file that holds these keys.
RT_INFO = 'mmdet_shufflenetv2'
OUTPUTS = ('boxes', 'scores', 'labels', 'count')
# Suffixes of model files.
MODELS = '.onnx', '.xml'
IMAGES = re.compile(r'\.(jpe?g|jpe|jfif|png|bmp|webp|tiff?|gif|p[pg]m)', re.I)
# Formats of Pillow's; it would run Ghostscript on an EPS file.
FORMATS = 'JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'GIF', 'PPM'
VIDEOS = re.compile(r'\.(mp4|m4v|mov|avi|mkv|webm|mpe?g|wmv|flv|ts|3gp)', re.I)
# 267 MB as RGB; a larger image is a mistake or an attack. Pillow only warns
# at this size, and refuses at twice the size.
MAX_PIXELS = 89_000_000
# A truncated JPEG that lacks a larger fraction of its rows is broken.
MAX_LOST = 0.25
_JPEG, _PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
_SOS, _EOI = b'\xff\xda', b'\xff\xd9'


class ModelError(UserError):
    """A model file cannot be used; the message names it."""


class ImageError(UserError):
    """An image cannot be used; the message names it."""


@dataclass(frozen=True)
class Detections:
    """The detections of one image.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in pixels of the image.
        scores: (n,) float32, highest first.
        labels: (n,) int64, indices into ``classes``.
        classes: The names of all classes.
        size: Width and height of the image.
        source: Path of the image, or '' if it was not read from a file.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    size: tuple[int, int]
    source: str = ''

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.classes[label] for label in self.labels]

    def above(self, score: float) -> 'Detections':
        """Keep the detections with at least this score."""
        kept = self.scores >= score
        names = 'boxes', 'scores', 'labels'
        return replace(self, **{n: getattr(self, n)[kept] for n in names})

    def to_coco(
        self, image_id: int = 0, category_ids: Iterable[int] | None = None
    ) -> list[dict]:
        """Convert to records of COCO's results format.

        Args:
            image_id: The image's id in the annotation file.
            category_ids: The id of each class there; by default 1, 2, 3, ...
        """
        if category_ids is None:
            category_ids = range(1, len(self.classes) + 1)
        ids = list(category_ids)
        boxes = self.boxes - np.pad(self.boxes[:, :2], ((0, 0), (2, 0)))
        return [
            dict(
                image_id=image_id,
                category_id=ids[label],
                bbox=[round(float(value), 3) for value in box],
                score=round(float(score), 5),
            )
            for box, score, label in zip(
                boxes, self.scores, self.labels, strict=True
            )
        ]

    def to_supervision(self):
        """Convert to ``supervision.Detections``, to draw, track or count."""
        return load_package('supervision').Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels,
            data={'class_name': np.array(self.names, dtype=str)},
        )


class Resize(NamedTuple):
    """The width and height that images are resized to fit into.

    With ``keep_ratio=False`` images are stretched to exactly this size. With
    ``turn`` a portrait image swaps width and height, as in mmdet.
    """

    width: int
    height: int
    keep_ratio: bool = True
    turn: bool = False

    def target(self, width: int, height: int) -> tuple[int, int]:
        """The size that an image of this width and height is resized to."""
        limits = self.width, self.height
        if not self.keep_ratio:
            return limits
        if self.turn:
            limits = sorted(limits, reverse=width > height)
        factor = min(limits[0] / width, limits[1] / height)
        return tuple(max(int(n * factor + 0.5), 1) for n in (width, height))


class Detector:
    """An exported detector.

    Args:
        model: A file written by ``export``.
        threads: Number of threads for a call; 0 uses one per core.
        score_thr: Drop detections that score lower. The threshold that the
            file was exported with always applies.

    Attributes:
        classes: Names of the classes.
        metadata: The parsed metadata of the file.

    Raises:
        ModelError: The file is missing, damaged or not from this project.
    """

    def __init__(
        self,
        model: str | os.PathLike,
        *,
        threads: int = 0,
        score_thr: float = 0.0,
    ):
        self.score_thr = score_thr
        self.session, self.metadata = open_model(os.fspath(model), threads)
        self.classes = tuple(self.metadata['classes'])
        self._path = model
        self._resize = Resize(**self.metadata['resize'])
        self.batch, *canvas, _ = self.session.shape
        self._canvas = tuple(canvas)

    def __call__(self, images) -> Detections | list[Detections]:
        """Detect objects in one image, in each of several or in a video.

        Args:
            images: An image: a path, a ``PIL.Image``, or a uint8 array,
                (H, W, 3) in BGR order as from ``cv2.imread`` or (H, W) grey.
                A folder, a list of images or a video file returns a list.

        Raises:
            ImageError: An image or video cannot be used.
        """
        if isinstance(images, int):
            raise UserError(f'camera {images} never ends: use stream')
        found = list(self.stream(images))
        return found[0] if is_one(images) else found

    def stream(
        self,
        images,
        on_error: Callable[[ImageError], None] | None = None,
    ) -> Iterator[Detections]:
        """Yield the detections of each image, with one batch in memory.

        Args:
            images: As for a call, the number of a camera, or any iterable of
                images.
            on_error: Called with the error of an image that cannot be used,
                which is then skipped; by default the error is raised.
        """
        batch = []
        if is_video(images):
            images = frames(open_video(images))
        for image in expand(images):
            try:
                one = self.prepare(image)
            except ImageError as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            # Padding changes scores, so it must not depend on other images.
            if batch and self.canvas(one) != self.canvas(batch[0]):
                yield from self.detect(batch)
                batch = []
            batch.append(one)
            if len(batch) == self.batch:
                yield from self.detect(batch)
                batch = []
        if batch:
            yield from self.detect(batch)

    def prepare(self, image) -> tuple[np.ndarray, tuple[int, int], str]:
        """Return an image's resized pixels, (width, height) and path or ''.

        The pixels are (h, w, 3) uint8, RGB or BGR as the metadata say; the
        (width, height) are those before resizing.
        """
        source, pixels = read_image(image)
        size = pixels.shape[1::-1]
        pixels = resize(pixels, *self._resize.target(*size))
        is_rgb = self.metadata['input']['order'] == 'RGB'
        return pixels if is_rgb else pixels[..., ::-1], size, source

    def canvas(self, one: tuple) -> tuple[int, int]:
        """Return the height and width of an output of ``prepare``, padded."""
        # A dynamic dimension has a name instead of a number.
        if all(isinstance(side, int) for side in self._canvas):
            return self._canvas
        return round_up(one[0].shape[:2])

    def feed(self, batch: list) -> dict[str, np.ndarray]:
        """Pad the outputs of ``prepare`` to the model's inputs.

        These are ``image`` (N, H, W, 3) uint8 and ``size`` (N, 2) float32,
        height and width without the padding; N is ``self.batch``.
        """
        sizes = np.array([pixels.shape[:2] for pixels, _, _ in batch])
        image = np.zeros((self.batch, *self.canvas(batch[0]), 3), np.uint8)
        # Rows of an incomplete batch are images of one black pixel.
        size = np.ones((self.batch, 2), np.float32)
        size[: len(batch)] = sizes
        for row, (pixels, _, _) in zip(image, batch, strict=False):
            row[: pixels.shape[0], : pixels.shape[1]] = pixels
        return dict(image=image, size=size)

    def detect(self, batch: list) -> Iterator[Detections]:
        """Detect objects in up to N outputs of ``prepare``, of one canvas."""
        outputs = self.session.run(OUTPUTS, self.feed(batch))
        for (pixels, size, source), boxes, scores, labels, count in zip(
            batch, *outputs, strict=False
        ):
            factor = np.divide(size, pixels.shape[1::-1], dtype=np.float32)
            boxes = boxes[:count] * np.tile(factor, 2)
            boxes = boxes.clip(max=np.tile(np.float32(size), 2))
            values = boxes, scores[:count], labels[:count]
            if labels[:count].max(initial=0) >= len(self.classes):
                raise ModelError(
                    f'{self._path} has {len(self.classes)} class names, but '
                    f'found an object of class {labels[:count].max()}'
                )
            found = Detections(*values, self.classes, size, source)
            yield found.above(self.score_thr)


class OpenVINO:
    """An OpenVINO model with the interface of :class:`OnnxRuntime`."""

    def __init__(self, path: str, threads: int):
        core = load_package('openvino').Core()
        model = core.read_model(path)
        self.properties = {
            key: str(model.get_rt_info([RT_INFO, key]).value)
            for key in KEYS
            if model.has_rt_info([RT_INFO, key])
        }
        # Some CPUs default to bfloat16, which is too coarse for boxes.
        options = {'INFERENCE_PRECISION_HINT': 'f32'}
        if threads:
            options['INFERENCE_NUM_THREADS'] = threads
        self.model = core.compile_model(model, 'CPU', options)
        shape = model.input('image').partial_shape
        self.shape = [n.get_length() if n.is_static else 'n' for n in shape]

    def run(self, names, feed: dict) -> list[np.ndarray]:
        # Threads cannot share a request.
        found = self.model.create_infer_request().infer(feed)
        return [found[name].copy() for name in names]


class OnnxRuntime:
    """An ONNX Runtime session of a file, or of a file's content."""

    def __init__(self, path: str | bytes, threads: int):
        onnxruntime = load_package('onnxruntime')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            path, options, providers=['CPUExecutionProvider']
        )
        self.run = session.run
        self.properties = session.get_modelmeta().custom_metadata_map
        self.shape = session.get_inputs()[0].shape


def round_up(size: Iterable[int], step: int = 32) -> tuple[int, ...]:
    """Round sides up; the default is the output stride of the backbones."""
    return tuple(-(-side // step) * step for side in size)


def load_package(name: str, package: str | None = None):
    """Import an optional package, or say how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = package or name
        raise UserError(f'this needs {name}: pip install {package}') from error


def open_model(path: str, threads: int) -> tuple:
    """Open a model file; returns its session and its metadata."""
    if not os.path.isfile(path) or not os.path.getsize(path):
        raise ModelError(f'model {path}: file is missing or empty')
    kind = OpenVINO if path.lower().endswith('.xml') else OnnxRuntime
    try:
        session = kind(path, threads)
    except UserError:
        raise
    except Exception as error:  # The runtimes share no base class of errors.
        reason = ' '.join(str(error).split())[:300]
        raise ModelError(f'model {path}: cannot be read: {reason}') from error
    try:
        return session, read_metadata(session)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f'model {path}: expected metadata of {FORMAT!r}, got '
            f'{type(error).__name__}: {error}; export the model with this '
            'project'
        ) from error


def read_metadata(session) -> dict:
    """Parse and check the metadata of a session's file.

    Raises:
        KeyError, TypeError, ValueError: They are missing or invalid.
    """
    found = session.properties
    if found['format'] != FORMAT:
        raise ValueError(f'format {found["format"]!r}')
    metadata = {key: json.loads(found[key]) for key in KEYS[1:]}
    classes, order = metadata['classes'], metadata['input']['order']
    if not isinstance(classes, list) or not all(
        isinstance(name, str) for name in classes
    ):
        raise ValueError(f'classes {classes!r}')
    if order not in ('RGB', 'BGR'):
        raise ValueError(f'input order {order!r}')
    sides = Resize(**metadata['resize'])[:2]
    limits = session.shape[2:0:-1]
    for side, limit in zip(sides, limits, strict=True):
        fits = not isinstance(limit, int) or round_up([side])[0] <= limit
        if not isinstance(side, int) or side < 1 or not fits:
            raise ValueError(f'resize to {sides}, input of {limits}')
    return metadata


def is_exported(path: str | os.PathLike) -> bool:
    """Whether this is named as a file for `Detector` is."""
    return os.fspath(path).lower().endswith(MODELS)


def is_one(images) -> bool:
    """Whether this is a single image."""
    if isinstance(images, str | os.PathLike):
        return not os.path.isdir(images) and not is_video(images)
    return hasattr(images, 'shape') or hasattr(images, 'getbands')


def expand(images) -> Iterable:
    """Iterate over images; those of a folder are found and sorted by path."""
    if is_one(images) or not isinstance(images, Iterable | os.PathLike):
        return [images]
    if not isinstance(images, str | os.PathLike):
        return images
    files = filter(Path.is_file, Path(images).rglob('*'))
    found = sorted(file for file in files if IMAGES.fullmatch(file.suffix))
    if not found:
        raise ImageError(f'folder {images}: contains no images')
    return found


def is_video(source) -> bool:
    """Whether this is the path of a video file or the number of a camera."""
    if isinstance(source, str | os.PathLike):
        is_named = VIDEOS.fullmatch(Path(source).suffix)
        return bool(is_named) and not os.path.isdir(source)
    return isinstance(source, int)


def open_video(source: str | os.PathLike | int):
    """Open a video file or a camera as a ``cv2.VideoCapture``."""
    cv2 = load_package('cv2', 'opencv-python-headless')
    if not isinstance(source, int):
        source = os.fspath(source)
    elif source < 0:
        # OpenCV would crash.
        raise ImageError(f'camera {source}: expected 0 or more')
    video = cv2.VideoCapture(source)
    if not video.isOpened():
        raise ImageError(f'video {source} cannot be opened')
    return video


def frames(video) -> Iterator[np.ndarray]:
    """Yield the frames of a ``cv2.VideoCapture``, (H, W, 3) uint8 BGR."""
    while (frame := video.read())[0]:
        yield frame[1]


def read_image(image) -> tuple[str, np.ndarray]:
    """Return an image's path, '' if none, and pixels (H, W, 3) uint8 RGB.

    Raises:
        ImageError: The image cannot be read, has more than ``MAX_PIXELS``, or
            is an array of an unsupported shape or type.
    """
    path = os.fspath(image) if isinstance(image, str | os.PathLike) else ''
    if path or hasattr(image, 'getbands'):
        try:
            return path, _read_file(path) if path else _upright(image)
        except Exception as error:  # Pillow may raise anything.
            reason = getattr(error, 'strerror', None) or error
            name = path or repr(image)
            raise ImageError(f'image {name}: {reason}') from error
    array = np.asarray(image)
    values = array[..., None] if array.ndim == 2 else array
    fits = values.ndim == 3 and values.shape[2] in (1, 3)
    if array.dtype != np.uint8 or not fits or not array.size:
        raise ImageError(
            'image: expected an array (H, W, 3) or (H, W) of uint8, got '
            f'shape {array.shape} of {array.dtype}'
        )
    return '', np.broadcast_to(values[..., ::-1], (*values.shape[:2], 3))


def is_truncated(content: bytes) -> bool:
    """Return whether a JPEG or PNG ends before its end marker.

    In a JPEG the marker cannot occur in compressed data, and that of an
    embedded preview precedes the start of the main image's data.
    """
    if content.startswith(_PNG):
        return b'IEND' not in content
    return content.startswith(_JPEG) and (
        content.rfind(_EOI) <= content.rfind(_SOS)
    )


def completed(
    content: bytes, decode: Callable[[bytes], np.ndarray | None]
) -> tuple[bytes, str]:
    """Append the end marker to a truncated JPEG that has most of its rows.

    Args:
        content: The bytes of a truncated image file.
        decode: Returns the pixels (H, W, 3) of such bytes, not turned, or
            None if they cannot be decoded.

    Returns:
        The bytes with the marker, and a warning about the image.

    Raises:
        ValueError: It is not a JPEG, or lacks more than ``MAX_LOST``.
    """
    size, pixels, lost = len(content), None, 1.0
    if content.startswith(_JPEG):
        # A trailing 0xFF, half of a cut marker, would hide the end marker, and
        # zeros, the rest of an interrupted download, would become pixels.
        content = content.rstrip(b'\xff\0') + _EOI
        pixels = decode(content)
    if pixels is not None:
        # Decoders fill the missing rows with a single colour.
        present = np.flatnonzero(np.ptp(pixels, axis=1).max(axis=1))
        lost = 1 - (present.max(initial=-1) + 1) / len(pixels)
    if lost > MAX_LOST:
        raise ValueError(
            f'truncated: its {size} bytes end before the end marker of the '
            'format; copy or download it again'
        )
    return content, f'lacks its last bytes; {lost:.0%} of its rows are lost'


def _read_file(path: str) -> np.ndarray:
    content, file = Path(path).read_bytes(), path
    if is_truncated(content):
        content, warning = completed(content, _stored_pixels)
        warnings.warn(f'image {path} {warning}', stacklevel=2)
        file = io.BytesIO(content)
    with _open(file) as image:
        if image.mode.startswith('RGB') and ';16' in str(image.tile):
            return _deep_colours(path)
        return _upright(image)


def _stored_pixels(content: bytes) -> np.ndarray | None:
    try:
        with _open(io.BytesIO(content)) as image:
            return np.asarray(image.convert('RGB'))
    except OSError:
        return None


def _open(file: str | io.BytesIO):
    """Open an image with Pillow, unless it is too large."""
    from PIL import Image

    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(
            f'too large: {image.width} x {image.height}, more than '
            f'{MAX_PIXELS / 1e6:g} million pixels'
        )
    return image


def _deep_colours(path: str) -> np.ndarray:
    """Read 16 bits per colour: Pillow keeps the upper byte of a value, or the
    lower one if the byte order is swapped.
    """

    def swapped(args):
        if isinstance(args, str):
            return args[:-1] + dict(B='L', L='B', N='B')[args[-1]]
        return swapped(args[0]), *args[1:]

    with _open(path) as upper, _open(path) as lower:
        for index, tile in enumerate(lower.tile):
            make = getattr(tile, '_make', tuple)  # Named since Pillow 11.
            lower.tile[index] = make([*tile[:3], swapped(tile[3])])
        high, low = (_upright(each) for each in (upper, lower))
    return _eight_bits((high.astype(np.uint16) << 8) | low)


def _upright(image) -> np.ndarray:
    """Convert a ``PIL.Image`` to (H, W, 3) uint8 RGB, turned as EXIF says.

    Values of 16 bits become 8.
    """
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode == 'F':
        raise ValueError('expected 8 or 16 bits, got floats')
    if not image.mode.startswith('I'):
        return np.asarray(image.convert('RGB'))
    return np.repeat(_eight_bits(np.asarray(image))[..., None], 3, 2)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Scale to 8 bits by the bits in use: cameras store 12 bits in 16."""
    highest = int(values.max(initial=0))
    bits = next((n for n in (8, 12, 14, 16) if highest < 2**n), 16)
    return (values >> (bits - 8)).clip(0, 255).astype(np.uint8)


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize bilinearly without antialiasing, in OpenCV's integer arithmetic.

    Training uses OpenCV; Pillow rounds down, which changed mAP by 0.003.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    left, right, x0, x1 = _neighbours(pixels.shape[1], width)
    above, below, y0, y1 = _neighbours(pixels.shape[0], height)
    rows, place = np.unique(np.append(above, below), return_inverse=True)
    pixels = pixels[rows]
    across = pixels[:, left] * x0[:, None] + pixels[:, right] * x1[:, None]
    across >>= 4
    upper = across[place[:height]] * y0[:, None, None] >> 16
    lower = across[place[height:]] * y1[:, None, None] >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _neighbours(size: int, count: int) -> tuple[np.ndarray, ...]:
    """Find the pixels before and after ``count`` positions along ``size``
    pixels: their indices, and their weights in units of 1/2048.
    """
    at = (np.arange(count) + 0.5) * (size / count) - 0.5
    at = at.astype(np.float32).clip(0, size - 1)
    first = np.floor(at).astype(np.int64)
    share = at - first
    weights = (np.rint(2048 * w).astype(np.int32) for w in (1 - share, share))
    return first, (first + 1).clip(max=size - 1), *weights
