"""Write a data set of synthetic shapes, to try the commands without data.

    python -m mmdet_shufflenetv2 synthetic data/shapes
    python -m mmdet_shufflenetv2 synthetic data/shape_crops --crops

The first is a detection set in COCO format, the second a classification set in
ImageNet's layout. A folder with other contents is not touched.
"""

import argparse

from ..data.synthetic import (
    CLASSES,
    ClassificationSet,
    DetectionSet,
    write_set,
)
from ..errors import UserError
from .options import sides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('out_dir', help='new folder, such as data/shapes')
    parser.add_argument(
        '--crops',
        action='store_true',
        help='one shape per image, for classification',
    )
    parser.add_argument(
        '--train',
        type=int,
        help='training images; with --crops, images per class (default: '
        f'{DetectionSet.train}, or {ClassificationSet.train})',
    )
    parser.add_argument(
        '--val',
        type=int,
        help='validation images; with --crops, images per class (default: '
        f'{DetectionSet.val}, or {ClassificationSet.val})',
    )
    parser.add_argument('--seed', type=int, help='random seed')
    parser.add_argument(
        '--size',
        metavar='WIDTHxHEIGHT',
        help='pixels; with --crops, one number (default: 256x192, or 64)',
    )


def run(args: argparse.Namespace) -> None:
    names = 'train', 'val', 'seed', 'size'
    given = {name: getattr(args, name) for name in names}
    options = {k: value for k, value in given.items() if value is not None}
    if args.size:
        try:
            options['size'] = (int if args.crops else sides)(args.size)
        except ValueError:
            expected = 'a number' if args.crops else 'WIDTHxHEIGHT'
            raise UserError(
                f'expected --size to be {expected}, got {args.size!r}'
            ) from None
    content = (ClassificationSet if args.crops else DetectionSet)(**options)
    made = write_set(args.out_dir, content, progress=True)
    images = f'{content.train} + {content.val} images'
    if args.crops:
        images += f' for each of {len(CLASSES)} classes'
    print(f'{args.out_dir}: {images} {"written" if made else "already exist"}')
