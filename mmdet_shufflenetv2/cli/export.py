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


def _size(text: str) -> tuple[int, int]:
    sides = [int(n) for n in text.lower().split('x') if n.isdecimal()]
    if len(sides) != 2 or not all(32 <= side <= 8192 for side in sides):
        raise argparse.ArgumentTypeError(
            f'expected WIDTHxHEIGHT of 32 to 8192 pixels, got {text!r}'
        )
    return tuple(sides)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f'expected a whole number above 0, got {text!r}'
        )
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
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
        type=_size,
        metavar='WxH',
        help="what images are made to fit into; default: the config's",
    )
    parser.add_argument(
        '--batch', type=_count, default=1, help='images of a call; default: 1'
    )
    parser.add_argument(
        '--dynamic',
        action='store_true',
        help='leave height and width free, in multiples of 32',
    )
    parser.add_argument(
        '--proposals',
        type=_count,
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
    """Export, compare, report."""
    from pathlib import Path

    import mmdet_shufflenetv2  # noqa: F401  (before mmdet)

    from ..deploy import runtime
    from ..deploy.detector import load_checkpoint
    from ..deploy.export import SUFFIXES, export
    from ..errors import UserError

    if (args.precision == 'int8') != bool(args.calibration):
        raise UserError('--precision int8 and --calibration need each other')
    options, checkpoint = vars(args), Path(args.checkpoint)
    del options['checkpoint']
    output = options.pop('output') or checkpoint.with_suffix(
        SUFFIXES[args.format]
    )
    calibration, images = options.pop('calibration'), options.pop('images')
    export(
        load_checkpoint(checkpoint, options.pop('config')),
        output,
        source=checkpoint.name,
        pictures=[p for each in images for p in runtime.expand(each)],
        calibration=runtime.expand(calibration) if calibration else (),
        **options,
    )
