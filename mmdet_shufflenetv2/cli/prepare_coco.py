"""Check COCO for training, and make minival splits of the 2014 release.

    python tools/prepare_coco.py --data-root data/coco

expects one of the two releases, unpacked:

    annotations/instances_train2017.json    train2017/*.jpg  (118287)
    annotations/instances_val2017.json      val2017/*.jpg    (5000)

    annotations/instances_train2014.json    train2014/*.jpg
    annotations/instances_val2014.json      val2014/*.jpg
    annotations/instances_val2017.json      (for the minival ids)

The 2017 files are used as they are. Without them, or with --minival-ids, the
2014 files become annotations/instances_trainvalminusminival2014.json and
annotations/instances_minival2014.json: the same images under their old names.
The minival ids come from instances_val2017.json or --minival-ids.
"""

import argparse
import shlex
from pathlib import Path

from ..data import coco_splits
from .options import whole_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--data-root', default='data/coco', help='default: %(default)s'
    )
    parser.add_argument(
        '--minival-ids',
        metavar='FILE',
        help='use the 2014 layout, with these image ids for minival: one per '
        'line, a JSON list, or a COCO file',
    )
    for split in 'train', 'val':
        parser.add_argument(
            f'--num-{split}',
            type=whole_number,
            default=getattr(coco_splits, f'NUM_{split.upper()}'),
            metavar='N',
            help=f'images the {split} split must have, 0 for any number '
            '(default: %(default)s)',
        )


def run(args: argparse.Namespace) -> None:
    counts = args.num_train or None, args.num_val or None
    layout = coco_splits.prepare(
        args.data_root,
        args.minival_ids,
        counts,
        lambda name: print(f'reading {name}', flush=True),
    )
    splits = coco_splits.LAYOUTS[layout]
    for split, count in zip(splits, counts, strict=True):
        path = Path(args.data_root, split.ann_file)
        images = f'{count} images' if count else 'images'
        print(f'{path}: {images}, all present')
    command = ['python tools/train.py configs/lighthead_shufflenetv2.py']
    # These are the config's own settings.
    if layout != '2017' or Path(args.data_root) != Path('data/coco'):
        command.append(f'--data-root {shlex.quote(args.data_root)}')
        for side, split in zip(('train', 'val'), splits, strict=True):
            command.append(f'--{side}-ann {split.ann_file}')
    print('Train with\n' + ' \\\n    '.join(command))
