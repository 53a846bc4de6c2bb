"""How features are reused from block to block: Figure 4 of the paper.

    python tools/feature_reuse.py
    python tools/feature_reuse.py --densenet densenet121.pth

Counts in a real ShuffleNet V2 how many channels pass from each block to each
later one untouched, beside the paper's r^j c with r = 1/2. With the checkpoint
of a DenseNet, torchvision's or this package's, also maps the mean absolute
weight with which each layer reads each earlier one. Leaves feature_reuse.png
and feature_reuse.csv.
"""

import argparse
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader

from mmdet_shufflenetv2.analysis.feature_reuse import (
    dense_weights,
    describe,
    draw,
    passed_channels,
    write_csv,
)
from mmdet_shufflenetv2.backbones.pretrained import weights_of
from mmdet_shufflenetv2.backbones.zoo import build_classifier
from mmdet_shufflenetv2.engine.command_line import (
    make_parser,
    reporting_errors,
)
from mmdet_shufflenetv2.engine.run_config import (
    UsageError,
    require_writable,
)


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
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
        help="trained weights of DenseNets, for the figure's other half",
    )
    parser.add_argument(
        '--out-dir', type=Path, default=Path('results'), help='%(default)s'
    )
    return parser.parse_args()


def read_weights(path: str) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint, which runs no code."""
    return weights_of(CheckpointLoader.load_checkpoint(path, 'cpu'), path)


def main() -> None:
    args = parse_args()
    require_writable(str(args.out_dir), 'output folder', '--out-dir')
    networks = {}
    try:
        for name in args.network:
            networks[name] = passed_channels(build_classifier(name).backbone)
        for path in args.densenet:
            networks[Path(path).stem] = dense_weights(read_weights(path))
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(describe(networks))
    if not args.densenet:
        print(
            "DenseNet's half of the figure is left out: it shows trained "
            'weights, which --densenet CHECKPOINT gives'
        )
    picture = args.out_dir / 'feature_reuse.png'
    draw(networks).savefig(picture, dpi=120)
    write_csv(picture.with_suffix('.csv'), networks)
    print(f'written to {picture} and {picture.with_suffix(".csv")}')


if __name__ == '__main__':
    reporting_errors(main)
