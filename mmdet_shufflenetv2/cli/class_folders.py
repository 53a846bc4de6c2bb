"""Decode every image of a folder of ImageNet's layout, and name what is wrong.

python -m mmdet_shufflenetv2 class_folders data/imagenet
python -m mmdet_shufflenetv2 class_folders my_pictures --any
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from ..data.class_folders import (
    SPLITS,
    check_class_folders,
    imagenet_synsets,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what it takes."""
    parser.add_argument('data_root', help='folder that holds train/ and val/')
    parser.add_argument(
        '--any',
        action='store_true',
        help="take any classes instead of ImageNet's 1000",
    )


def run(args: argparse.Namespace) -> None:
    """Check the folder."""
    folders = [Path(args.data_root) / split for split in SPLITS]
    classes = None if args.any else imagenet_synsets()
    with tqdm(desc='decoding', unit='image') as bar:
        found = check_class_folders(folders, classes, True, bar.update)
    print(f'{args.data_root}: {len(found)} classes, all images readable')
