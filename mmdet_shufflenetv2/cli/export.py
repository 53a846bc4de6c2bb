"""Write a detector's checkpoint as one file, and prove that it agrees.

    python tools/export.py best.pth
    python tools/export.py best.pth --output model.onnx --image-size 416x416
    python tools/export.py best.pth --images photos/
    python tools/export.py best.pth --precision int8 --calibration photos/

The whole detector is in it: RPN, suppression, PSRoI pooling, final boxes.
`mmdet_shufflenetv2.deploy.runtime.Detector` runs it without PyTorch. The file
is compared with the checkpoint on pictures before it is kept; what differs
more than `docs/deploy.md` says is an error, and an earlier file stays.
"""

import argparse
from pathlib import Path

from ..errors import UserError
from .options import image_size, positive_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--output', help="default: beside it, as the format's")
    parser.add_argument(
        '--config', help='config file; default: what the checkpoint says'
    )
    parser.add_argument(
        '--format',
        choices=['onnx', 'openvino', 'ncnn'],
        default='onnx',
        help='default: onnx; ncnn: backbone, neck and RPN alone',
    )
    parser.add_argument(
        '--precision',
        choices=['fp32', 'fp16', 'int8'],
        default='fp32',
        help='default: fp32; fp16: weights in half the space',
    )
    parser.add_argument(
        '--calibration',
        metavar='DIR',
        help='int8: a folder of some 100 pictures like those of later use',
    )
    parser.add_argument(
        '--image-size',
        type=image_size,
        metavar='WxH',
        help="what images are made to fit into; default: the config's",
    )
    parser.add_argument(
        '--batch',
        type=positive_int,
        default=1,
        help='images of a call; default: 1',
    )
    parser.add_argument(
        '--dynamic',
        action='store_true',
        help='height and width from 64 to 8192, in multiples of 32',
    )
    parser.add_argument(
        '--proposals',
        type=positive_int,
        help="how many RoIs are classified; default: the config's",
    )
    parser.add_argument(
        '--images',
        nargs='+',
        default=[],
        metavar='PATH',
        help='pictures or folders to compare on; default: synthetic ones',
    )


def run(args: argparse.Namespace) -> None:
    from ..deploy.detector import load_checkpoint
    from ..deploy.export import SUFFIXES, export
    from ..deploy.runtime import expand

    if (args.precision == 'int8') != bool(args.calibration):
        raise UserError('--precision int8 and --calibration need each other')
    beside = Path(args.checkpoint).with_suffix(SUFFIXES[args.format])
    export(
        load_checkpoint(args.checkpoint, args.config),
        args.output or beside,
        source=Path(args.checkpoint).name,
        format=args.format,
        precision=args.precision,
        calibration=expand(args.calibration) if args.calibration else (),
        image_size=args.image_size,
        batch=args.batch,
        dynamic=args.dynamic,
        proposals=args.proposals,
        pictures=[p for each in args.images for p in expand(each)],
    )
