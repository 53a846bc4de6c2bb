"""Show how features are reused from block to block: Figure 4 of the paper.

    python tools/feature_reuse.py
    python tools/feature_reuse.py --densenet densenet121.pth

Counts how many channels of a real ShuffleNet V2 pass unchanged from each block
to each later one, next to the paper's r^j c with r = 1/2. With a checkpoint of
a DenseNet (torchvision's or this package's), also maps the mean absolute
weight by which each layer reads each earlier one. Writes feature_reuse.png and
feature_reuse.csv.
"""

import argparse
from pathlib import Path

from mmengine.runner import CheckpointLoader

from ..backbones.pretrained import weights_of
from ..backbones.zoo import build_classifier
from ..engine.run_config import require_writable
from ..errors import UserError
from ..paper.feature_reuse import (
    dense_weights,
    draw,
    passed_channels,
    write_csv,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--network',
        nargs='+',
        default=['shufflenet_v2_x1_0'],
        metavar='NAME',
        help='ShuffleNet V2 networks, such as shufflenet_v2_50; '
        'default: shufflenet_v2_x1_0',
    )
    parser.add_argument(
        '--densenet',
        nargs='+',
        default=[],
        metavar='CHECKPOINT',
        help='trained weights of DenseNets, for the other half of the figure',
    )
    parser.add_argument(
        '--out-dir', type=Path, default='results', help='default: %(default)s'
    )


def run(args: argparse.Namespace) -> None:
    networks = {}
    try:
        require_writable(str(args.out_dir), 'output folder', '--out-dir')
        for name in args.network:
            networks[name] = passed_channels(build_classifier(name).backbone)
        for path in args.densenet:
            checkpoint = CheckpointLoader.load_checkpoint(path, 'cpu')
            weights = weights_of(checkpoint, path)
            networks[Path(path).stem] = dense_weights(weights)
    except ValueError as error:
        raise UserError(str(error)) from error
    if not args.densenet:
        print(
            "DenseNet's half of the figure is left out: it needs trained "
            'weights, --densenet CHECKPOINT'
        )
    picture = args.out_dir / 'feature_reuse.png'
    draw(networks).savefig(picture, dpi=120)
    write_csv(picture.with_suffix('.csv'), networks)
    print(f'written to {picture} and {picture.with_suffix(".csv")}')
