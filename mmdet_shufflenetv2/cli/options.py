"""Options that several commands share, and types that say what they expect.

A type takes an argument's text and gives its value; for any other text it
raises ``ArgumentTypeError``, and argparse names the argument.
"""

import argparse
import math
import os
from argparse import ArgumentTypeError

from ..errors import UserError

# launcher: (what it sets for each process, what it sets to how many there
# are, how it is called).
LAUNCHERS = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'torchrun --nproc-per-node N'),
    'slurm': ('SLURM_PROCID', 'SLURM_STEP_NUM_TASKS', 'srun'),
    'mpi': (
        'OMPI_COMM_WORLD_LOCAL_RANK',
        'OMPI_COMM_WORLD_SIZE',
        'mpirun',
    ),
}
DATA_OPTIONS = 'train_ann', 'train_img', 'val_ann', 'val_img'


def whole_number(text: str) -> int:
    """0, 1, 2 and so on."""
    if not text.isdecimal():
        raise ArgumentTypeError(f'expected a whole number, got {text!r}')
    return int(text)


def positive_int(text: str) -> int:
    """1, 2, 3 and so on."""
    if not whole_number(text):
        raise ArgumentTypeError('expected 1 or more, got 0')
    return int(text)


def positive_number(text: str) -> float:
    """A number above 0, such as 1.5."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f'expected a number above 0, got {text!r}')
    return number


def share(text: str) -> float:
    """A number between 0 and 1, such as 0.2."""
    number = positive_number(text)
    if number >= 1:
        raise ArgumentTypeError(f'expected a number below 1, got {text!r}')
    return number


def image_size(text: str) -> tuple[int, int]:
    """Width and height in pixels, such as 640x480."""
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal()) or (
        min(int(width), int(height)) < 8
    ):
        raise ArgumentTypeError(
            'expected WIDTHxHEIGHT of at least 8 pixels, such as 640x480, '
            f'got {text!r}'
        )
    return int(width), int(height)


class ConfigAction(argparse.Action):
    """mmengine's KEY=VALUE pairs; names what is not a pair."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        from mmengine.config import DictAction

        for pair in values:
            if '=' not in pair:
                raise argparse.ArgumentError(
                    self, f'expected KEY=VALUE, got {pair!r}'
                )
        action = DictAction(self.option_strings, self.dest, nargs='+')
        action(parser, namespace, values, option_string)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add mmengine's way to override a config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigAction,
        metavar='KEY=VALUE',
        help='override config values, such as '
        'train_dataloader.batch_size=4 model.neck.act_each=True',
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what train and test have in common."""
    parser.add_argument(
        '--work-dir',
        metavar='DIR',
        help='default: a new folder work_dirs/NAME, NAME-2, ... by --name',
    )
    parser.add_argument(
        '--name', help='of the run; default: the name of the config'
    )
    parser.add_argument(
        '--network',
        metavar='NAME',
        help='of configs/pretrain.py: which network, such as '
        'shufflenet_v2_x0_5',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', *LAUNCHERS],
        help='what started several processes; default: detected',
    )
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS,
    )


def add_val_fraction(parser) -> None:
    """Add the share of the images that validation gets."""
    parser.add_argument(
        '--val-fraction',
        type=share,
        metavar='X',
        help='share of the training images to set apart for validation; '
        'default: 0.2, where there is no such split',
    )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add what points a config to another folder of data."""
    group = parser.add_argument_group('your own data set')
    group.add_argument(
        '--data-root',
        metavar='DIR',
        help='for a classifier a folder of train/<class>/<image> and '
        'val/<class>/<image>; for a detector one in COCO, YOLO, Pascal VOC or '
        'CSV format, whose parts are found by looking, or given by:',
    )
    for split in 'train', 'val':
        group.add_argument(
            f'--{split}-ann', metavar='FILE', help='relative to --data-root'
        )
        group.add_argument(
            f'--{split}-img', metavar='DIR', help='relative to --data-root'
        )
    add_val_fraction(group)
    group.add_argument(
        '--strict',
        action='store_true',
        help='stop at a broken image or annotation; default: leave it out, '
        'name and count it',
    )
    group.add_argument(
        '--exif',
        choices=['apply', 'ignore'],
        help='boxes are on pictures as viewers turn them (default), or as '
        'they are stored',
    )
    group.add_argument(
        '--on-bad-boxes',
        choices=['error', 'drop'],
        help='former name: error is --strict, drop the default',
    )


def check_run_options(args: argparse.Namespace) -> None:
    """Refuse options that would have no effect; find the launcher.

    Several processes that do not know of each other would each train a
    network of its own and overwrite each other's files.

    Args:
        args: ``launcher`` is set to the one that started this process.

    Raises:
        UserError: An option lacks another one, or the launcher did not start
            this process.
    """
    for name in DATA_OPTIONS:
        if getattr(args, name) is not None and args.data_root is None:
            raise UserError(
                f'--{name.replace("_", "-")} needs --data-root DIR'
            )
    started_by = next(
        (
            launcher
            for launcher, (_, count, _) in LAUNCHERS.items()
            if os.environ.get(count, '1') != '1'
        ),
        'none',
    )
    if args.launcher is None:
        args.launcher = started_by
    elif args.launcher == 'none' and started_by != 'none':
        count = LAUNCHERS[started_by][1]
        raise UserError(
            f'--launcher none, but {count}={os.environ[count]}: each of these '
            'processes would train on its own and overwrite the files of the '
            'others; leave --launcher out'
        )
    variable, _, starter = LAUNCHERS.get(args.launcher, (None, None, None))
    if variable and variable not in os.environ:
        raise UserError(
            f'--launcher {args.launcher} is for processes that {starter} '
            f'started, and {variable} is not set; start it so, or leave '
            '--launcher out'
        )
