"""Check a folder of data as training would, without training.

    python -m mmdet_shufflenetv2 check my_data
    python -m mmdet_shufflenetv2 check my_data --out-dir check_images

Counts images and boxes per class in both splits and lists errors and warnings.
With --out-dir, also draws up to five examples of each kind of problem, and a
few images without problems. Exit code 1 if a record is wrong.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from .options import add_data_options

#: Number of images without problems to draw.
GOOD = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('data_root', help='folder of images and annotations')
    add_data_options(parser)
    parser.set_defaults(exif='apply')
    parser.add_argument('--out-dir', metavar='DIR', help='save pictures here')


def run(args: argparse.Namespace) -> None:
    from ..data.folders import find_data
    from ..data.reading import read_boxes, report
    from ..data.rules import require_trainable

    options = dict(vars(args))
    out_dir = options.pop('out_dir')
    splits = find_data(**options)
    print(*splits.notes, sep='\n')
    wrong, reported = False, set()
    for name, source in ('train', splits.train), ('val', splits.val):
        table = read_boxes(source)
        lines = [*summary(name, table), *report(table, False, reported)]
        print('', *lines, sep='\n')
        wrong |= bool(table.errors)
        if name == 'train':
            require_trainable(table)
        if out_dir:
            folder = Path(out_dir, name)
            print(f'{draw(table, folder)} pictures in {folder}')
    if wrong:
        sys.exit(1)


def summary(name: str, table) -> list[str]:
    """Summarise images, sizes and the boxes of each class, as lines."""
    from ..data.table import SMALL_BOX_PX

    used = np.unique(table.image)
    lines = [
        f'{name}: {len(table)} images, {len(table) - len(used)} of them '
        f'without objects, {len(table.boxes)} boxes'
    ]
    if len(table):
        sizes = np.percentile(table.sizes, (0, 50, 100), axis=0)
        sizes = ', '.join(f'{w:g} x {h:g}' for w, h in sizes)
        lines.append(f'  sizes {sizes} (lowest, median, highest)')
    if len(table.boxes):
        sides = table.box_sizes()
        low, middle, high = np.percentile(sides, (0, 50, 100))
        lines.append(
            f'  boxes {low:.0f}, {middle:.0f}, {high:.0f} px (square root of '
            f'the area), {np.mean(sides < SMALL_BOX_PX):.0%} below '
            f'{SMALL_BOX_PX}'
        )
    for label, count in enumerate(table.counts()):
        images = len(np.unique(table.image[table.labels == label]))
        lines.append(
            f'  {table.classes[label]}: {count} boxes in {images} images'
        )
    return lines


def draw(table, folder: Path) -> int:
    """Draw reported records in red, and a few good images in green.

    Returns:
        The number of pictures written.
    """
    import cv2

    from ..data.images import decode_image
    from ..data.table import DatasetError

    folder.mkdir(parents=True, exist_ok=True)
    records = [
        (kind, file, shape, [box], (0, 0, 255))
        for problems in (table.errors, table.warnings)
        for kind, places in problems.places.items()
        for file, shape, box in places
    ]
    for i in range(0, len(table), max(1, len(table) // GOOD))[:GOOD]:
        boxes = table.boxes[table.image == i]
        place = table.files[i], table.shape(i), boxes
        records.append(('well', *place, (0, 200, 0)))
    written = 0
    for kind, file, shape, boxes, color in records:
        try:
            content = Path(file).read_bytes()
            image = decode_image(content, file, shape, table.source.exif)
        except (OSError, DatasetError):
            continue
        for box in np.nan_to_num(boxes, posinf=1e6, neginf=-1e6):
            x, y, w, h = np.clip(box, -1e6, 1e6).round().astype(int).tolist()
            cv2.rectangle(image, (x, y), (x + w, y + h), color, 2)
        words = ''.join(c if c.isalnum() else '_' for c in kind)[:40]
        path = folder / f'{written:03d}_{words}_{Path(file).stem[:40]}.jpg'
        path.write_bytes(cv2.imencode('.jpg', image)[1].tobytes())
        written += 1
    return written
