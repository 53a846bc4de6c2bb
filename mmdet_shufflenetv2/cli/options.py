"""Options shared by several commands, and argument types with clear errors."""

import argparse
import math
import os
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable

from ..errors import UserError

# launcher: variables it sets to (rank of a process, number of processes). Each
# may have been started by a later one, whose variables are then set too.
LAUNCHERS = {
    'pytorch': ('RANK', 'WORLD_SIZE'),
    'mpi': ('OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_SIZE'),
    'slurm': ('SLURM_PROCID', 'SLURM_STEP_NUM_TASKS'),
}


def checked(expected: str, read: Callable, is_valid: Callable) -> Callable:
    """Make an argparse type that converts by ``read`` and then validates."""

    def parse(text: str):
        try:
            value = read(text)
            valid = is_valid(value)
        except ValueError:
            valid = False
        if not valid:
            raise ArgumentTypeError(f'expected {expected}, got {text!r}')
        return value

    return parse


def sides(text: str) -> tuple[int, int]:
    width, height = text.split('x')
    return int(width), int(height)


whole_number = checked('a whole number', int, lambda n: n >= 0)
positive_int = checked('a whole number above 0', int, lambda n: n > 0)
positive_number = checked(
    'a number above 0', float, lambda x: 0 < x < math.inf
)
share = checked('a number between 0 and 1', float, lambda x: 0 < x < 1)
image_size = checked(
    'WIDTHxHEIGHT of at least 8 pixels, such as 640x480',
    sides,
    lambda sides: min(sides) >= 8,
)
key_and_value = checked('KEY=VALUE', str, lambda text: '=' in text)


class _Pairs(argparse.Action):
    """mmengine's ``DictAction``, imported only when the option is used."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        from mmengine.config import DictAction

        action = DictAction(self.option_strings, self.dest, nargs='+')
        action(parser, namespace, values, option_string)


def add_cfg_options(
    parser: ArgumentParser,
    option: str = '--cfg-options',
    meaning: str = 'override config values, such as '
    'train_dataloader.batch_size=4 model.neck.act_each=True',
) -> None:
    """Add mmengine's option to override config values."""
    parser.add_argument(
        option,
        nargs='+',
        action=_Pairs,
        type=key_and_value,
        metavar='KEY=VALUE',
        help=meaning,
    )


def add_run_options(parser: ArgumentParser) -> None:
    """Add the options that train and test have in common."""
    parser.add_argument(
        '--work-dir',
        metavar='DIR',
        help='default: a new folder work_dirs/NAME, NAME-2, ... for train, '
        'and work_dirs/NAME/test for test; see --name',
    )
    parser.add_argument(
        '--name', help='name of the run; default: the name of the config'
    )
    parser.add_argument(
        '--network',
        metavar='NAME',
        help='network, with configs/pretrain.py; such as shufflenet_v2_x0_5',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', *LAUNCHERS],
        help='what started the processes; default: detected',
    )
    # torch.distributed.launch passes it.
    parser.add_argument('--local_rank', '--local-rank', help=argparse.SUPPRESS)
    group = parser.add_argument_group('your own data set')
    group.add_argument(
        '--data-root',
        metavar='DIR',
        help='classifier: folder of train/<class>/<image> and '
        'val/<class>/<image>; detector: folder in COCO, YOLO, Pascal VOC or '
        'CSV format; its parts are detected, or named by the next options',
    )
    add_data_options(group)
    group.add_argument(
        '--strict',
        action='store_true',
        help='stop at a broken image or annotation; default: skip it and '
        'report it',
    )


def add_data_options(group) -> None:
    """Add the options that locate the parts of a data set."""
    parts = ('ann', 'FILE', 'annotations'), ('img', 'DIR', 'images')
    either = group.add_mutually_exclusive_group()
    for split in 'train', 'val':
        for name, metavar, what in parts:
            option = f'--{split}-{name}'
            text = f'{what} of the {split} split, relative to the data root'
            place = either if option == '--val-ann' else group
            place.add_argument(option, metavar=metavar, help=text)
    either.add_argument(
        '--val-fraction',
        type=share,
        metavar='X',
        help='share of the training images to hold out for validation; '
        'default: 0.2 if the data has no validation split',
    )
    group.add_argument(
        '--exif',
        choices=['apply', 'ignore'],
        help='whether boxes refer to images rotated by their EXIF tag '
        '(default) or to images as stored',
    )


def check_run_options(args: argparse.Namespace) -> None:
    """Reject options without effect; set ``args.launcher`` if not given.

    Raises:
        UserError: An option needs ``--data-root``, or ``args.launcher`` did
            not start this process. Processes that do not know each other would
            train separate networks and overwrite each other's files.
    """
    names = 'train_ann', 'train_img', 'val_ann', 'val_img', 'val_fraction'
    for name in names:
        if getattr(args, name) is not None and args.data_root is None:
            option = name.replace('_', '-')
            raise UserError(f'--{option} needs --data-root DIR')
    started_by = 'none'
    for launcher, (rank, count) in LAUNCHERS.items():
        if rank in os.environ and os.environ.get(count, '1') != '1':
            started_by = launcher
            break
    args.launcher = args.launcher or started_by
    if args.launcher == 'none':
        is_wrong = started_by != 'none'
    else:
        is_wrong = LAUNCHERS[args.launcher][0] not in os.environ
    if is_wrong:
        raise UserError(
            f'--launcher {args.launcher}: expected the launcher that started '
            f'this process, which is {started_by}; leave --launcher out'
        )
