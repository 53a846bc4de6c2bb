"""Convert a classifier's weights to this project's names, or back.

    python tools/convert_checkpoint.py shufflenetv2_x1-5666bf0f80.pth x1_0.pth
    python tools/test.py configs/pretrain.py x1_0.pth \\
        --eval error
    python tools/convert_checkpoint.py x1_0.pth back.pth --to torchvision

What a file holds is recognised by its keys: torchvision's, the ShuffleNet
authors', mmpretrain's and pytorchcv's networks, where they are the same as
the ones here. Every key must have a counterpart, and the file must hold one
whole network; values are not changed. The images that the weights expect,
RGB normalised or BGR 0-255, go into the file's meta data, and tools/train.py,
test.py and demo.py then feed them so.
"""

import argparse
import os

import torch
from mmengine.runner import CheckpointLoader

from mmdet_shufflenetv2.compat.atomic_files import whole_file
from mmdet_shufflenetv2.engine import conversion
from mmdet_shufflenetv2.engine.command_line import (
    make_parser,
    reporting_errors,
)
from mmdet_shufflenetv2.engine.run_config import UsageError


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('source', help='checkpoint to read')
    parser.add_argument('target', help='checkpoint to write')
    parser.add_argument(
        '--to',
        choices=conversion.FORMAT_NAMES,
        default=conversion.OURS,
        help='default: %(default)s',
    )
    parser.add_argument(
        '--force', action='store_true', help='overwrite an existing target'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if os.path.exists(args.target) and not args.force:
        raise UsageError(f'{args.target} is there already; --force overwrites')
    content = CheckpointLoader.load_checkpoint(args.source, 'cpu')
    classifier = conversion.read(content, args.source)
    converted = conversion.write(classifier, args.to)
    with whole_file(args.target) as file:
        torch.save(converted, file)
    head = classifier.head.get('weight', ())
    style = f', style {classifier.style}' if classifier.style else ''
    print(
        f'{args.source}: {classifier.network}{style}, '
        f'{classifier.found.title} format, '
        f'{f"{len(head)} classes" if len(head) else "backbone only"}\n'
        f'images it expects: {classifier.expected_input or "not stated"}\n'
        f'{args.target}: {args.to} format, {len(classifier.backbone)} '
        'tensors of the backbone'
    )


if __name__ == '__main__':
    reporting_errors(main)
