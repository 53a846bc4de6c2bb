"""Export a detector to one file and compare it with the checkpoint.

    python tools/export.py best.pth
    python tools/export.py best.pth --output model.onnx --image-size 416x416
    python tools/export.py best.pth --images photos/
    python tools/export.py best.pth --precision int8 --calibration photos/

The file holds the whole detector: RPN, NMS, PSRoI pooling and final boxes.
`mmdet_shufflenetv2.deploy.runtime.Detector` runs it without PyTorch. The file
replaces an earlier export only if its output on images agrees with the
checkpoint's within the limits in `docs/deploy.md`.
"""

import argparse
from pathlib import Path

from ..errors import UserError
from .options import image_size, positive_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--output', help='default: next to the checkpoint')
    parser.add_argument(
        '--config', help='config file; default: the one in the checkpoint'
    )
    parser.add_argument(
        '--format',
        choices=['onnx', 'openvino', 'ncnn'],
        default='onnx',
        help='default: onnx; ncnn: only backbone, neck and RPN',
    )
    parser.add_argument(
        '--precision',
        choices=['fp32', 'fp16', 'int8'],
        default='fp32',
        help='default: fp32; fp16 halves the size of the weights',
    )
    parser.add_argument(
        '--calibration',
        metavar='DIR',
        help='for int8: folder of about 100 images like those in later use',
    )
    parser.add_argument(
        '--image-size',
        type=image_size,
        metavar='WxH',
        help="size that images are resized to fit into; default: the config's",
    )
    parser.add_argument(
        '--batch',
        type=positive_int,
        default=1,
        help='images per call; default: 1',
    )
    parser.add_argument(
        '--dynamic',
        action='store_true',
        help='accept heights and widths from 64 to 8192, in multiples of 32',
    )
    parser.add_argument(
        '--proposals',
        type=positive_int,
        help="number of RoIs to classify; default: the config's",
    )
    parser.add_argument(
        '--images',
        nargs='+',
        default=[],
        metavar='PATH',
        help='images or folders for the comparison; default: synthetic images',
    )


def run(args: argparse.Namespace) -> None:
    from ..deploy.export import SUFFIXES, export
    from ..deploy.runtime import expand
    from ..engine.weights import load_detector

    if (args.precision == 'int8') != bool(args.calibration):
        raise UserError('--precision int8 and --calibration need each other')
    path = Path(args.checkpoint)
    export(
        load_detector(args.checkpoint, args.config),
        args.output or path.with_suffix(SUFFIXES[args.format]),
        source=path.name,
        format=args.format,
        precision=args.precision,
        calibration=expand(args.calibration) if args.calibration else (),
        image_size=args.image_size,
        batch=args.batch,
        dynamic=args.dynamic,
        proposals=args.proposals,
        pictures=[p for each in args.images for p in expand(each)],
    )
