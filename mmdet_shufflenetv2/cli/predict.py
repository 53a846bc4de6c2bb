"""Detect objects in images, folders, videos or a camera stream.

    python -m mmdet_shufflenetv2 predict photo.jpg best.pth
    python -m mmdet_shufflenetv2 predict photos/ 'more/*.png' best.onnx \\
        --save pictures coco yolo csv
    python -m mmdet_shufflenetv2 predict video.mp4 best.pth
    python -m mmdet_shufflenetv2 predict 0 best.pth --save video

Classes, image size and input format come from the model file; a checkpoint
that contains no config needs one before it (CONFIG.py best.pth). Boxes in
detections.json (COCO format with scores) and detections.csv (x1, y1, x2, y2)
are in image pixels; labels/ has the relative boxes of YOLO.

Exit code: 1 if a file could not be used (each is named), 2 if none was tried,
130 after Ctrl-C, which keeps the detections so far.
"""

import argparse
import csv
import glob
import json
import os
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .options import add_cfg_options, positive_int

COLUMNS = 'image', 'class', 'score', 'x1', 'y1', 'x2', 'y2'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'sources',
        nargs='+',
        help='images, folders, glob patterns, videos, or a camera number',
    )
    parser.add_argument(
        'model', help='checkpoint, or exported .onnx or .xml file'
    )
    parser.add_argument(
        '--save',
        nargs='+',
        choices=['pictures', 'coco', 'yolo', 'csv', 'video'],
        help='default: coco, plus pictures for images and video for videos',
    )
    parser.add_argument(
        '--out-dir',
        metavar='DIR',
        default='detections',
        help='default: %(default)s; DIR-2, DIR-3 and so on if it is not empty',
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='save boxes with at least this score; default: %(default)s',
    )
    parser.add_argument(
        '--batch', type=positive_int, default=1, help='default: %(default)s'
    )
    parser.add_argument(
        '--device', help='default: cuda if PyTorch sees a GPU, else cpu'
    )
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from ..deploy.detector import Detector
    from ..deploy.runtime import is_video
    from ..engine.run_config import load_config
    from ..engine.run_dir import new_folder

    config = None
    if args.sources[-1].endswith('.py') and len(args.sources) > 1:
        config = load_config(args.sources.pop(), args.cfg_options)
    files = find_files(args.sources, args.out_dir)
    has_video = any(map(is_video, files.values()))
    if 'video' in (args.save or ()) and not has_video:
        raise UserError('--save video: expected a video or camera, got none')
    detector = Detector(
        args.model,
        config,
        device=args.device,
        cfg_options=args.cfg_options,
        score_thr=args.score_thr,
        batch=args.batch,
    )
    save = {*(args.save or ('coco', 'images', 'video'))}
    output = Output(new_folder(args.out_dir), save, detector.classes)
    pending, bad = deque(), []

    def skip(error: UserError) -> None:
        bad.append(f'{pending.pop().name}: {error}')

    total = None if has_video else len(files)
    with tqdm(total=total, unit='image', disable=None) as bar:
        try:
            for found in detector.stream(read(files, pending, bad), skip):
                output.add(pending.popleft(), found)
                bar.update()
        finally:
            output.close()
    counts = f'{len(output.boxes)} boxes in {len(output.images)} images'
    print(f'{counts}: {output.folder}')
    if bad:
        text = '\n  '.join([f'error: {len(bad)} skipped', *bad])
        print(text, file=sys.stderr)
        sys.exit(1)


def find_files(sources: list[str], out_dir: str) -> dict[str, Path | int]:
    """Map unique names to image and video paths and camera numbers.

    A name is the path relative to the files' common parent folder. The output
    of earlier calls in ``out_dir``, ``out_dir-2`` and so on is skipped.

    Raises:
        UserError: A source has no image or video.
    """
    from ..deploy.runtime import IMAGES, is_video
    from ..engine.run_dir import find_runs

    earlier = {path.resolve() for path in find_runs(out_dir)}
    files, cameras = {}, {}
    for source in sources:
        paths = [source]
        if not os.path.isfile(source):
            if source.isdecimal() and not os.path.exists(source):
                cameras[f'camera {source}'] = int(source)
                continue
            inside = os.path.join(glob.escape(source), '**')
            pattern = inside if os.path.isdir(source) else source
            paths = [
                path
                for path in sorted(glob.glob(pattern, recursive=True))
                if (IMAGES.fullmatch(Path(path).suffix) or is_video(path))
                and not earlier & {*Path(path).resolve().parents}
            ]
        if not paths:
            raise UserError(
                f'{source}: no image or video found; expected a file, a '
                'folder, a glob pattern or a camera number'
            )
        files |= {os.path.abspath(path): Path(path) for path in paths}
    folders = [os.path.dirname(path) for path in files] or ['/']
    root = os.path.commonpath(folders)
    return {os.path.relpath(k, root): v for k, v in files.items()} | cameras


class Frame(NamedTuple):
    """An image, or a frame of a video."""

    name: str
    pixels: np.ndarray  # uint8 (H, W, 3) BGR
    file: str
    rate: float = 0  # frames per second; 0 for an image


def read(
    files: dict, pending: deque[Frame], bad: list[str]
) -> Iterator[np.ndarray]:
    """Yield pixels; append frames to ``pending`` and errors to ``bad``."""
    import cv2

    from ..deploy import runtime

    for name, file in files.items():
        try:
            if not runtime.is_video(file):
                pixels = runtime.read_image(file)[1][..., ::-1]
                pending.append(Frame(name, pixels, name))
                yield pixels
                continue
            video, number = runtime.open_video(file), 0
            rate = video.get(cv2.CAP_PROP_FPS) or 25
            total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
            for number, pixels in enumerate(runtime.frames(video), 1):
                title = f'{name}/{number:06}.jpg'
                pending.append(Frame(title, pixels, name, rate))
                yield pixels
            # Some containers estimate the count from duration and rate.
            if number < max(total - 1, 1):
                counts = f'{number} of {total} frames read'
                bad.append(f'video {file} is truncated: {counts}')
        except runtime.ImageError as error:
            bad.append(str(error))


class Output:
    """Collects detections and writes them in the formats of ``save``."""

    def __init__(self, folder: Path, save: set[str], classes: tuple) -> None:
        self.folder, self.save, self.classes = folder, save, classes
        self.images, self.boxes, self.rows = [], [], []
        self._videos = {}

    def add(self, frame: Frame, found) -> None:
        """Add the detections of an image or a frame."""
        image_id, (width, height) = len(self.images) + 1, found.size
        image = dict(id=image_id, file_name=frame.name)
        self.images.append(dict(image, width=width, height=height))
        for record in found.to_coco(image_id):
            x, y, width, height = record['bbox']
            own = dict(id=len(self.boxes) + 1, area=width * height, iscrowd=0)
            self.boxes.append({**own, **record})
            label = self.classes[record['category_id'] - 1]
            corners = x, y, round(x + width, 3), round(y + height, 3)
            self.rows.append((frame.name, label, record['score'], *corners))
        if 'yolo' in self.save:
            name = Path(frame.name)
            path = self._path('labels', name.with_suffix('.txt'))
            # a.jpg and a.png must not share a label file.
            if path.exists():
                path = path.with_name(f'{name.name}.txt')
            low, high = np.split(found.boxes / [*found.size * 2], 2, axis=1)
            rows = found.labels[:, None], (low + high) / 2, high - low
            np.savetxt(path, np.hstack(rows), '%d' + ' %.6f' * 4)
        if {'pictures', 'video' if frame.rate else 'images'} & self.save:
            self._draw(frame, found)

    def _draw(self, frame: Frame, found) -> None:
        import cv2

        from ..engine.pictures import draw_boxes, picture_name

        scores = zip(found.names, found.scores, strict=True)
        texts = [f'{label} {score:.2f}' for label, score in scores]
        labels = found.labels.tolist()
        rgb = frame.pixels[..., ::-1]
        drawn = draw_boxes(rgb, found.boxes, labels, texts)
        drawn = np.ascontiguousarray(drawn[..., ::-1])
        if 'pictures' in self.save or not frame.rate:
            path = self._path(picture_name(frame.name))
            path.write_bytes(cv2.imencode(path.suffix, drawn)[1].tobytes())
        if 'video' in self.save and frame.rate:
            if frame.file not in self._videos:
                path = self._path(f'{frame.file.removesuffix(".mp4")}.mp4')
                options = cv2.VideoWriter.fourcc(*'mp4v'), frame.rate
                video = cv2.VideoWriter(str(path), *options, found.size)
                if not video.isOpened():
                    raise UserError(
                        f'video {path} cannot be written: OpenCV has no '
                        'codec for it here; use --save pictures coco'
                    )
                self._videos[frame.file] = video
            self._videos[frame.file].write(drawn)

    def _path(self, *parts) -> Path:
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def close(self) -> None:
        """Finish the videos, and write the files that cover all images."""
        for video in self._videos.values():
            video.release()
        if 'coco' in self.save:
            names = enumerate(self.classes, 1)
            categories = [dict(id=number, name=name) for number, name in names]
            content = dict(images=self.images, annotations=self.boxes)
            text = json.dumps(dict(content, categories=categories))
            self._path('detections.json').write_text(text)
        if 'yolo' in self.save:
            text = ''.join(f'{name}\n' for name in self.classes)
            self._path('classes.txt').write_text(text, encoding='utf-8')
        if 'csv' in self.save:
            path = self._path('detections.csv')
            with path.open('w', encoding='utf-8', newline='') as file:
                csv.writer(file).writerows([COLUMNS, *self.rows])
