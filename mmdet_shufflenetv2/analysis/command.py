"""The command behind ``tools/analyze.py``."""

import argparse
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.config import DictAction

from ..engine.argument_types import (
    image_size,
    positive_int,
    positive_number,
    whole_number,
)
from ..engine.command_line import add_cfg_options, make_parser
from ..engine.run_config import UsageError, require_writable
from ..measure.setting import require_device
from ..measure.memory import (
    available_bytes,
    is_out_of_memory,
    refused_rather_than_killed,
)
from ..measure.records import Records
from ..measure.setting import PRECISIONS, Setting
from ..measure.timing import CLOCKS, Effort
from .alternatives import DEFAULT_WAYS
from .analysis import QUICK, Analysis, Request, analyse
from .exports import keep, records_in, write_csv, write_json
from .networks import Subject, load_subject, random_image
from .picture import draw
from .report import report
from .trace import write_trace

# What networks raise at images or settings they are not made for.
_RUN_ERRORS = (
    *(RuntimeError, MemoryError, ValueError, TypeError, AssertionError),
    *(IndexError, KeyError, AttributeError, NotImplementedError),
)
# Lines of advice and layers on the terminal; report.txt has all.
SHOWN = 8


def _write_text(analysis: Analysis, path: Path) -> None:
    path.write_text(report(analysis))


# file: (what is in it, how it is written)
OUTPUTS: dict[str, tuple[str, Callable[[Analysis, Path], None]]] = {
    'report.txt': ('all advice, all layers', _write_text),
    'layers.csv': ('one row for each layer', write_csv),
    'analysis.json': ('everything, for programs', write_json),
    'analysis.png': ('time, roofline, receptive fields', draw),
    'trace.json': ('time line for ui.perfetto.dev', write_trace),
}


def size_of(text: str) -> tuple[int, int]:
    """(H, W) from ``1216x800``, the width first as everywhere in tools/."""
    width, height = image_size(text)
    return height, width


def parser(doc: str) -> argparse.ArgumentParser:
    """The arguments.

    Args:
        doc: what ``--help`` says first.
    """
    result = make_parser(doc)
    result.add_argument(
        'network',
        metavar='CONFIG_OR_BACKBONE',
        help='a config file, PACKAGE::CONFIG of an installed package, a '
        'published name such as shufflenet_v2_x1_0, or a registered '
        'backbone such as ShuffleNetV2',
    )
    _add_network_arguments(result)
    _add_setting_arguments(result)
    _add_effort_arguments(result)
    result.add_argument(
        '--out-dir', help='default: work_dirs/analysis/<name of the network>'
    )
    result.add_argument(
        '--record',
        type=Path,
        metavar='CSV',
        help='file to add the time of each kind of work to, such as '
        'results/analysis_cpu.csv',
    )
    return result


def _add_network_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--checkpoint', help='trained weights; default: random ones'
    )
    parser.add_argument(
        '--backbone-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='arguments of a backbone, such as widen_factor=0.5',
    )
    add_cfg_options(parser)


def _add_setting_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--size',
        type=size_of,
        metavar='WIDTHxHEIGHT',
        help="pixels; default: the config's test images, else 224x224",
    )
    parser.add_argument(
        '--batch', type=positive_int, default=1, help='images; default: 1'
    )
    parser.add_argument(
        '--device', default='cpu', help='cpu, cuda or cuda:N; default: cpu'
    )
    parser.add_argument(
        '--threads',
        type=positive_int,
        default=os.cpu_count(),
        help='CPU threads; default: %(default)s',
    )
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='fp32',
        help='default: fp32, TF32 off',
    )
    parser.add_argument(
        '--clock',
        choices=CLOCKS,
        default='wall',
        help='cpu: time of all threads, for a busy machine with --threads 1',
    )


def _add_effort_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--quick',
        action='store_true',
        help='a first look: a few runs of everything, which say less',
    )
    parser.add_argument(
        '--seconds',
        type=positive_number,
        default=10.0,
        help='for timing the network; default: %(default)s',
    )
    parser.add_argument(
        '--samples',
        type=whole_number,
        default=4,
        help='images for the effective receptive field, 0 for none; '
        'default: %(default)s',
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='also measure torch.compile, which takes minutes',
    )


def _setting(args: argparse.Namespace) -> Setting:
    try:
        return Setting(
            args.device, args.threads, args.precision, clock=args.clock
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _records(args: argparse.Namespace) -> Records:
    if args.quick:
        raise UsageError('--record: a --quick look is not worth recording')
    return records_in(args.record)


def _running(subject: Subject, request: Request) -> Subject:
    """The network after it has run once, without predictions if need be.

    Raises:
        UsageError: it does not run; says why.
    """
    setting = request.setting
    image = random_image(request.batch, request.size, setting.device)
    image = image.to(setting.dtype)
    reason = ''
    # Some heads of MMDetection cannot predict, but can be run up to there.
    for attempt in (
        subject,
        *([replace(subject, no_results='?')] if subject.is_detector else []),
    ):
        try:
            with torch.no_grad():
                attempt.run(image)
        except _RUN_ERRORS as error:
            if is_out_of_memory(error):
                raise
            first = str(error).strip().partition('\n')[0]
            reason = reason or f'{type(error).__name__}: {first}'
        else:
            return replace(attempt, no_results=reason or None)
    raise UsageError(f'{_what(subject, request)} cannot run: {reason}')


def _what(subject: Subject, request: Request) -> str:
    height, width = request.size
    return f'{subject.name} at {request.batch} x {height} x {width}'


@contextmanager
def _memory_watched(subject: Subject, request: Request) -> Iterator[None]:
    """Say so if the network does not fit in memory."""
    setting = request.setting
    room = nullcontext() if setting.on_gpu else refused_rather_than_killed()
    try:
        with room:
            yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UsageError(
            f'{_what(subject, request)} does not fit in memory'
            f'{_free(setting.device)}; give a smaller --size or --batch'
        ) from error


def _free(device: str) -> str:
    if torch.device(device).type == 'cuda':
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = available_bytes()
    return '' if free is None else f' ({free / 1e9:.1f} GB are free)'


def run(args: argparse.Namespace) -> None:
    """Analyse a network, print the report and write everything.

    Raises:
        UsageError: what was given cannot be analysed; says why.
    """
    # PyTorch's profiler, which tells of memory, reports on stderr.
    os.environ.setdefault('KINETO_LOG_LEVEL', '9')
    require_device(args.device)
    setting = _setting(args)
    subject = load_subject(
        args.network, args.backbone_options, args.cfg_options, args.checkpoint
    )
    name = re.sub(r'[^\w.-]+', '_', Path(args.network).stem)
    folder = Path(args.out_dir or Path('work_dirs', 'analysis', name))
    require_writable(str(folder), 'output folder', '--out-dir')
    records = args.record and _records(args)
    request = Request(
        size=args.size or subject.size,
        batch=args.batch,
        setting=setting,
        ways=(*DEFAULT_WAYS, *(['compiled'] if args.compile else [])),
        effort=QUICK
        if args.quick
        else Effort(5, 100, args.seconds, args.seconds / 3),
        samples=min(args.samples, 1) if args.quick else args.samples,
        quick=args.quick,
        settled=args.checkpoint is not None,
    )
    setting.apply()
    with _memory_watched(subject, request):
        subject.model.to(setting.device, setting.dtype)
        analysis = analyse(_running(subject, request), request)
    if records:
        keep(analysis, records)
    print(report(analysis, SHOWN))
    width = max(map(len, OUTPUTS))
    for file, (what, write) in OUTPUTS.items():
        write(analysis, folder / file)
        print(f'{folder / file!s:{len(str(folder)) + width + 1}}  {what}')
