"""The command behind ``tools/analyze.py``."""

import argparse
import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.config import DictAction

from ..benchmark.memory import (
    available_bytes,
    is_out_of_memory,
    refused_rather_than_killed,
)
from ..benchmark.setting import PRECISIONS, Setting
from ..benchmark.timing import Effort
from ..engine.command_line import add_cfg_options, make_parser
from ..engine.run_config import UsageError, require_writable
from .alternatives import DEFAULT_WAYS
from .analysis import QUICK, Analysis, Request, analyse
from .networks import load_subject
from .picture import draw
from .report import report
from .subject import Subject, random_image
from .table import write_csv, write_json
from .trace import write_trace

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
    """(H, W) from ``800x1216``."""
    found = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', text)
    if not found:
        raise argparse.ArgumentTypeError(
            f'HEIGHTxWIDTH in pixels is allowed, such as 800x1216, got {text}'
        )
    return int(found[1]), int(found[2])


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(
            f'a positive integer is allowed, got {text}'
        )
    return int(text)


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
    result.add_argument(
        '--size',
        type=size_of,
        metavar='HxW',
        help="pixels; default: the config's test images, else 224x224",
    )
    result.add_argument(
        '--batch', type=_positive, default=1, help='images; default: 1'
    )
    result.add_argument(
        '--device', default='cpu', help='cpu, cuda or cuda:N; default: cpu'
    )
    result.add_argument(
        '--threads',
        type=_positive,
        default=os.cpu_count(),
        help='CPU threads; default: %(default)s',
    )
    result.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='fp32',
        help='default: fp32, TF32 off',
    )
    result.add_argument(
        '--checkpoint', help='trained weights; default: random ones'
    )
    result.add_argument(
        '--backbone-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='arguments of a backbone, such as widen_factor=0.5',
    )
    add_cfg_options(result)
    result.add_argument(
        '--compile',
        action='store_true',
        help='also measure torch.compile, which takes minutes',
    )
    result.add_argument(
        '--seconds',
        type=float,
        default=10.0,
        help='for timing the network; default: %(default)s',
    )
    result.add_argument(
        '--quick',
        action='store_true',
        help='a first look: a few runs of everything, which say less',
    )
    result.add_argument(
        '--samples',
        type=int,
        default=4,
        help='images for the effective receptive field, 0 for none; '
        'default: %(default)s',
    )
    result.add_argument(
        '--out-dir', help='default: work_dirs/analysis/<name of the network>'
    )
    return result


def _check_device(name: str) -> None:
    try:
        kind = torch.device(name).type
        if kind == 'cuda':
            torch.cuda.get_device_properties(name)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).partition('\n')[0]
        raise UsageError(f'--device {name}: {reason}') from error
    if kind not in ('cpu', 'cuda'):
        raise UsageError(f'--device: cpu or cuda is allowed, got {name}')


def _check_runs(subject: Subject, request: Request) -> None:
    """Run the network once, or say why it does not."""
    height, width = request.size
    what = f'{subject.name} at {request.batch} x {height} x {width}'
    device = request.setting.device
    try:
        image = random_image(request.batch, request.size, device)
        with torch.no_grad():
            subject.run(image.to(request.setting.dtype))
    except (RuntimeError, MemoryError, ValueError, TypeError) as error:
        if is_out_of_memory(error):
            raise UsageError(
                f'{what} does not fit in memory{_free(device)}; give a '
                'smaller --size or --batch'
            ) from error
        reason = str(error).strip().partition('\n')[0]
        raise UsageError(f'{what} cannot run: {reason}') from error
    except (AssertionError, IndexError, KeyError, AttributeError) as error:
        raise UsageError(
            f'{what} cannot run: {type(error).__name__} {error}'
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
    _check_device(args.device)
    setting = Setting(args.device, args.threads, args.precision)
    subject = load_subject(
        args.network, args.backbone_options, args.cfg_options, args.checkpoint
    )
    name = re.sub(r'[^\w.-]+', '_', Path(args.network).stem)
    folder = Path(args.out_dir or Path('work_dirs', 'analysis', name))
    require_writable(str(folder), 'output folder', '--out-dir')
    request = Request(
        size=args.size or subject.size,
        batch=args.batch,
        setting=setting,
        ways=(*DEFAULT_WAYS, *(['compiled'] if args.compile else [])),
        effort=QUICK
        if args.quick
        else Effort(5, 100, args.seconds, args.seconds / 3),
        samples=args.samples,
        quick=args.quick,
        settled=args.checkpoint is not None,
    )
    setting.apply()
    guard = nullcontext() if setting.on_gpu else refused_rather_than_killed()
    with guard:
        subject.model.to(setting.device, setting.dtype)
        _check_runs(subject, request)
        analysis = analyse(subject, request)
    print(report(analysis, SHOWN))
    width = max(map(len, OUTPUTS))
    for file, (what, write) in OUTPUTS.items():
        write(analysis, folder / file)
        print(f'{folder / file!s:{len(str(folder)) + width + 1}}  {what}')
