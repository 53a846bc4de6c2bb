"""Measure a runner's memory over many images, some of them unreadable.

    python mmdet_shufflenetv2/deploy/memory.py best.onnx \
        --output results/deploy_memory.csv

Run as a file like this, the process does not import PyTorch.
"""

import argparse
import csv
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

try:
    from .runtime import Detector
except ImportError:  # Run as a file.
    from runtime import Detector


def write_images(folder: Path) -> list[Path]:
    """Write images of several sizes and formats, and files that are broken."""
    values = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    image = Image.fromarray(values.repeat(16, 0).repeat(16, 1))
    for side in 1, 50, 640, 3000:
        image.resize((side, max(side * 3 // 4, 1))).save(
            folder / f'{side}.jpg'
        )
    image.convert('CMYK').save(folder / 'cmyk.jpg')
    image.convert('P').save(folder / 'palette.png')
    deep = np.asarray(image.convert('L'), np.uint16) << 8
    Image.fromarray(deep).save(folder / '16 bits.png')
    for name, whole in ('cut.jpg', '640.jpg'), ('cut.png', 'palette.png'):
        content = (folder / whole).read_bytes()
        (folder / name).write_bytes(content[: len(content) * 3 // 4])
    (folder / 'empty.jpg').write_bytes(b'')
    (folder / 'text.png').write_text('no image')
    return sorted(folder.iterdir())


def main() -> None:
    """Record memory every 50 images and print its growth."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('model', help='exported file')
    parser.add_argument('--images', type=int, default=1000)
    parser.add_argument('--output', help='CSV file to write')
    args = parser.parse_args()
    if args.images < 100:
        parser.error(f'--images: expected at least 100, got {args.images}')
    warnings.simplefilter('ignore')
    detector, errors, rows = Detector(args.model, threads=2), [], []
    page = os.sysconf('SC_PAGE_SIZE')
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder))
        for number in range(1, args.images + 1):
            path = paths[number % len(paths)]
            list(detector.stream([path], lambda error: errors.append(1)))
            if number % 50 == 0:
                pages = Path('/proc/self/statm').read_text().split()[1]
                rows.append((number, len(errors), int(pages) * page / 1e6))
    images, _, memory = np.array(rows)[len(rows) // 5 :].T
    slope = np.polyfit(images, memory, 1)[0] * 1000
    print(f'memory grows by {slope:.2f} MB per 1000 images')
    if args.output:
        with open(args.output, 'w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(['images', 'unusable', 'memory_mb'])
            writer.writerows((*row[:2], f'{row[2]:.1f}') for row in rows)


if __name__ == '__main__':
    main()
