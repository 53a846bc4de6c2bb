"""Convert a classifier's weights to this project's names, or back.

    python tools/convert_checkpoint.py shufflenetv2_x1-5666bf0f80.pth x1_0.pth
    python tools/test.py configs/pretrain.py x1_0.pth --eval error
    python tools/convert_checkpoint.py x1_0.pth back.pth --to torchvision

The format is recognised from the keys: torchvision's, the ShuffleNet authors',
mmpretrain's, timm's and pytorchcv's, for networks that also exist here. Every
key must have a counterpart and the file must hold one complete network; values
are not changed. The input format that the weights expect, normalised RGB or
BGR 0-255, is stored in the metadata for tools/train.py, test.py and demo.py.
"""

import argparse
import os

import torch
from mmengine.runner import CheckpointLoader

from ..compat.atomic_files import whole_file
from ..compat.weight_formats import FORMAT_NAMES, OURS
from ..engine import conversion
from ..errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', help='checkpoint to read')
    parser.add_argument('target', help='checkpoint to write')
    parser.add_argument(
        '--to',
        choices=FORMAT_NAMES,
        default=OURS,
        help='default: %(default)s',
    )
    parser.add_argument(
        '--force', action='store_true', help='overwrite an existing target'
    )


def run(args: argparse.Namespace) -> None:
    if os.path.exists(args.target) and not args.force:
        raise UserError(f'{args.target} exists; overwrite it with --force')
    content = CheckpointLoader.load_checkpoint(args.source, 'cpu')
    classifier = conversion.read(content, args.source)
    converted = conversion.write(classifier, args.to)
    with whole_file(args.target) as file:
        torch.save(converted, file)
    head = classifier.head.get('weight', ())
    style = f', style {classifier.style}' if classifier.style else ''
    classes = f'{len(head)} classes' if len(head) else 'backbone only'
    fit = classifier.fit
    print(
        f'{args.source}: {classifier.network}{style}, {fit.found} format, '
        f'{classes}\nexpected input: {fit.expected_input or "unknown"}\n'
        f'{args.target}: {args.to} format, {len(fit.named)} backbone tensors'
    )
