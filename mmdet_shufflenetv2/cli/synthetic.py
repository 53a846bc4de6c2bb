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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what it takes."""
    parser.add_argument('out_dir', help='new folder, such as data/shapes')
    parser.add_argument(
        '--crops',
        action='store_true',
        help='one shape a picture, for classification',
    )
    for name, meaning in (
        ('train', 'training pictures; with --crops of each class'),
        ('val', 'validation pictures; likewise'),
        ('seed', 'another one gives other pictures'),
    ):
        first, second = (
            getattr(kind, name) for kind in (DetectionSet, ClassificationSet)
        )
        told = f'{first}' if first == second else f'{first}, or {second}'
        parser.add_argument(
            f'--{name}', type=int, help=f'{meaning} (default: {told})'
        )
    parser.add_argument(
        '--size',
        metavar='WIDTHxHEIGHT',
        help='pixels; with --crops one number (default: 256x192, or 64)',
    )


def run(args: argparse.Namespace) -> None:
    """Write the set."""
    names = 'train', 'val', 'seed'
    options = {
        n: getattr(args, n) for n in names if getattr(args, n) is not None
    }
    if args.size:
        options['size'] = _size(args.size, args.crops)
    content = (ClassificationSet if args.crops else DetectionSet)(**options)
    made = write_set(args.out_dir, content, progress=True)
    of = f' of each of {len(CLASSES)} classes' if args.crops else ''
    state = 'written' if made else 'already there'
    print(
        f'{args.out_dir}: {content.train} + {content.val} images{of}, {state}'
    )


def _size(text: str, square: bool) -> int | tuple[int, int]:
    words = text.split('x')
    if len(words) != (1 if square else 2) or not all(
        word.isdecimal() for word in words
    ):
        expected = 'a number' if square else 'WIDTHxHEIGHT, such as 256x192'
        raise UserError(f'expected --size to be {expected}, got {text!r}')
    numbers = [int(word) for word in words]
    return numbers[0] if square else tuple(numbers)
