"""What the commands of ``tools/`` share: arguments and error reports."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable

import torch.distributed as dist
from mmengine.config import DictAction
from mmengine.registry import build_functions

from ..backbones.pytorchcv_networks import MissingLibrary
from ..compat import apply_tool_patches
from ..compat.checkpoints import CheckpointError
from ..errors import UserError
from .divergence import TrainingDiverged
from .early_log import keep_records
from .run_config import UsageError
from .runner import CheckpointMismatch

# These name the user's file, or what is not installed, and what to do; a
# traceback would hide it.
REPORTED = (
    UsageError,
    UserError,
    CheckpointMismatch,
    CheckpointError,
    MissingLibrary,
    TrainingDiverged,
    FileNotFoundError,
)


# launcher: (a variable that it sets for each process, its command).
LAUNCHERS = {
    'pytorch': ('RANK', 'torchrun --nproc-per-node N'),
    'slurm': ('SLURM_PROCID', 'srun'),
    'mpi': ('OMPI_COMM_WORLD_LOCAL_RANK', 'mpirun'),
}
DATA_OPTIONS = 'train_ann', 'train_img', 'val_ann', 'val_img'


class ConfigAction(DictAction):
    """mmengine's KEY=VALUE pairs, and a word on what is none."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for pair in values:
            if '=' not in pair:
                raise argparse.ArgumentError(
                    self, f'expected KEY=VALUE, got {pair!r}'
                )
        super().__call__(parser, namespace, values, option_string)


def make_parser(doc: str) -> argparse.ArgumentParser:
    """Make a command's parser; its module docstring is the help."""
    return argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


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


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what train and test have in common."""
    parser.add_argument(
        '--work-dir', help='default: work_dirs/<name of the config>'
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', *LAUNCHERS],
        default='none',
        help='what started several processes',
    )
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS,
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what points a config to another folder of data."""
    group = parser.add_argument_group('your own data set')
    group.add_argument(
        '--data-root',
        metavar='DIR',
        help='for a classifier a folder of train/<class>/<image> and '
        'val/<class>/<image>; for a detector one in COCO format, whose '
        'annotation files and image folders are detected, or given by:',
    )
    for split in 'train', 'val':
        group.add_argument(
            f'--{split}-ann', metavar='FILE', help='relative to --data-root'
        )
        group.add_argument(
            f'--{split}-img', metavar='DIR', help='relative to --data-root'
        )
    group.add_argument(
        '--on-bad-boxes',
        choices=['error', 'drop'],
        help='of a detector: stop at impossible boxes in the annotations '
        '(default), or leave them out',
    )


def parse_run(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse; refuse options that would have no effect or cannot work.

    Args:
        parser: With the common arguments and those of the data.
    """
    args = parser.parse_args()
    for name in DATA_OPTIONS:
        if getattr(args, name) is not None and args.data_root is None:
            parser.error(f'--{name.replace("_", "-")} needs --data-root DIR')
    variable, starter = LAUNCHERS.get(args.launcher, (None, None))
    if variable and variable not in os.environ:
        parser.error(
            f'--launcher {args.launcher} is for processes that {starter} '
            f'started, and {variable} is not set; start it so, or leave '
            '--launcher out'
        )
    return args


def reporting_errors(main: Callable[[], None]) -> None:
    """Run a command; show an expected error as one message, exit code 2.

    Args:
        main: The command.
    """
    os.environ.setdefault('LOCAL_RANK', '0')
    apply_tool_patches()
    keep_records()
    try:
        main()
        if dist.is_available() and dist.is_initialized():
            # Its threads abort a process that ends while they run.
            dist.destroy_process_group()
    except KeyboardInterrupt as stopped:
        print(f'\n{str(stopped) or "stopped"}', file=sys.stderr)
        sys.exit(130)
    except REPORTED as error:
        # A data loader's process hands its whole traceback over as text.
        message = str(error)
        if 'Original Traceback' in message:
            marker = f'{type(error).__name__}: '
            message = message.rpartition(marker)[2].strip()
        print(f'error: {message}', file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        # Not permitted, disk full: clear where it names the file.
        if error.filename is None:
            raise
        print(f'error: {error.filename}: {error.strerror}', file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if not is_about_the_config(error):
            raise
        message = error.args[0] if isinstance(error, KeyError) else error
        print(f'error: in the config: {message}', file=sys.stderr)
        sys.exit(2)


def is_about_the_config(error: Exception) -> bool:
    """Whether an entry of the config names no class or bad arguments.

    mmengine's registry calls classes with what the config says: Python names
    an argument that there is not, this package one that cannot be so.
    """
    files = [f.filename for f in traceback.extract_tb(error.__traceback__)]
    if build_functions.__file__ not in files:
        return False
    ours = files[-1].startswith(os.path.dirname(os.path.dirname(__file__)))
    return (ours and isinstance(error, ValueError)) or files[
        -1
    ] == build_functions.__file__
