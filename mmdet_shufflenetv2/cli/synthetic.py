"""Write synthetic pictures of shapes, to try everything on without data.

    python -m mmdet_shufflenetv2 synthetic data/shapes
    python -m mmdet_shufflenetv2 synthetic data/shape_crops --crops

The first is a detection set in COCO format, the second a classification set
in ImageNet's layout. A folder that holds something else is left alone.
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
        help='one shape a picture, for classification',
    )
    parser.add_argument(
        '--train',
        type=int,
        help='training pictures; with --crops of each class (default: '
        f'{DetectionSet.train}, or {ClassificationSet.train})',
    )
    parser.add_argument(
        '--val',
        type=int,
        help='validation pictures; likewise (default: '
        f'{DetectionSet.val}, or {ClassificationSet.val})',
    )
    parser.add_argument(
        '--seed', type=int, help='another one gives other pictures'
    )
    parser.add_argument(
        '--size',
        metavar='WIDTHxHEIGHT',
        help='pixels; with --crops one number (default: 256x192, or 64)',
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
    of = f' of each of {len(CLASSES)} classes' if args.crops else ''
    state = 'written' if made else 'already there'
    print(
        f'{args.out_dir}: {content.train} + {content.val} images{of}, {state}'
    )
