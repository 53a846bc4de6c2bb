"""Decode every image of a folder in ImageNet's layout and report errors.

python -m mmdet_shufflenetv2 class_folders data/imagenet
python -m mmdet_shufflenetv2 class_folders my_pictures --any
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from ..data import class_folders


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('data_root', help='folder with train/ and val/')
    parser.add_argument(
        '--any',
        action='store_true',
        help="accept any classes instead of ImageNet's 1000",
    )


def run(args: argparse.Namespace) -> None:
    folders = [Path(args.data_root, part) for part in class_folders.SPLITS]
    classes = None if args.any else class_folders.imagenet_synsets()
    with tqdm(desc='decoding', unit='image') as bar:
        found = class_folders.check_class_folders(
            folders, classes, True, bar.update
        )
    print(f'{args.data_root}: {len(found)} classes, all images readable')
