"""Check COCO for training, and make the 2014 splits if that is what you have.

    python tools/prepare_coco.py --data-root data/coco

expects one of the two releases, unpacked:

    annotations/instances_train2017.json    train2017/*.jpg  (118287)
    annotations/instances_val2017.json      val2017/*.jpg    (5000)

    annotations/instances_train2014.json    train2014/*.jpg
    annotations/instances_val2014.json      val2014/*.jpg
    annotations/instances_val2017.json      (for the minival ids)

The 2017 files are used as they are. Out of the 2014 files it writes
annotations/instances_trainvalminusminival2014.json and
annotations/instances_minival2014.json, the same images by their old names;
the minival ids are those of instances_val2017.json or of --minival-ids.
"""

import argparse
import shlex
from pathlib import Path

from ..data.coco_splits import (
    LAYOUTS,
    NUM_TRAIN,
    NUM_VAL,
    config_options,
    prepare,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what it takes."""
    parser.add_argument(
        '--data-root', default='data/coco', help='default: %(default)s'
    )
    parser.add_argument(
        '--layout',
        choices=['auto', *LAYOUTS],
        default='auto',
        help='which release to use; auto takes the one that is complete, '
        '2017 first (default)',
    )
    parser.add_argument(
        '--minival-ids',
        metavar='FILE',
        help='image ids of minival for the 2014 layout: one per line, a JSON '
        'list, or a COCO file',
    )
    for name, number in (('train', NUM_TRAIN), ('val', NUM_VAL)):
        parser.add_argument(
            f'--num-{name}',
            type=int,
            default=number,
            metavar='N',
            help=f'images the {name} split must have, 0 for any number '
            '(default: %(default)s)',
        )


def run(args: argparse.Namespace) -> None:
    """Make or check the splits; print the command that trains on them."""
    counts = (args.num_train or None, args.num_val or None)
    layout = prepare(
        args.data_root,
        args.layout,
        args.minival_ids,
        counts,
        lambda name: print(f'reading {name}', flush=True),
    )
    for split, number in zip(LAYOUTS[layout], counts, strict=True):
        number = f'{number} images' if number else 'images'
        print(f'{Path(args.data_root, split.ann_file)}: {number}, all there')
    print('Train with\n' + _next_command(args.data_root, layout))


def _next_command(data_root: str, layout: str) -> str:
    """The training command for the splits."""
    command = 'python tools/train.py configs/lighthead_shufflenetv2.py'
    root = data_root.rstrip('/') + '/'
    options = config_options(layout, root)
    if layout == '2017' and root == 'data/coco/':
        # What the config says already.
        return command
    pairs = [shlex.quote(f'{key}={value}') for key, value in options.items()]
    return ' \\\n    '.join([command, '--cfg-options', *pairs])
