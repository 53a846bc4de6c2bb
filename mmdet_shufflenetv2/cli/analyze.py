"""Profile a network layer by layer on this machine, and suggest changes.

    python tools/analyze.py shufflenet_v2_x1_0
    python tools/analyze.py ShuffleNetV2 --backbone-options widen_factor=0.5
    python tools/analyze.py configs/lighthead_shufflenetv2.py --size 320x320
    python tools/analyze.py mmdet::retinanet/retinanet_r50_fpn_1x_coco.py

Runs the network and times every operation in place. Each layer that breaks one
of the guidelines G1 to G4 is also timed against a variant that follows it, and
all times are compared with this machine's limits. Prints advice, most useful
first; tables, a plot and a trace for ui.perfetto.dev go to the output folder.
FLOPs are multiply-adds.
"""

import argparse
import os
import re
import sys
from contextlib import nullcontext
from pathlib import Path

from ..analysis import Analysis, analyze
from ..analysis.advice import DEFAULT_WAYS
from ..analysis.report import RECORDED, kind_rows
from ..errors import UserError
from ..measure.memory import is_out_of_memory, refused_rather_than_killed
from ..measure.records import Records
from ..measure.setting import PRECISIONS, Setting, describe, require_device
from ..measure.timing import CLOCKS
from .options import (
    add_cfg_options,
    image_size,
    positive_int,
    positive_number,
    whole_number,
)

# Number of pieces of advice and of layers to print; report.txt has all.
SHOWN = 8
# File name: (content, function that writes it). The last needs matplotlib.
OUTPUTS = {
    'report.txt': (
        'all advice, all layers',
        lambda result, path: path.write_text(result.table()),
    ),
    'layers.csv': ('one row per layer', Analysis.to_csv),
    'analysis.json': ('everything, machine-readable', Analysis.to_json),
    'trace.json': ('trace for ui.perfetto.dev', Analysis.to_trace),
    'analysis.png': ('time, roofline, receptive fields', Analysis.plot),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        'network',
        metavar='CONFIG_OR_BACKBONE',
        help='a config file, PACKAGE::CONFIG of an installed package, a '
        'published name such as shufflenet_v2_x1_0, or a registered '
        'backbone such as ShuffleNetV2 or mmpretrain.ResNet',
    )
    add('--checkpoint', help='trained weights; default: random weights')
    text = 'arguments of a backbone, such as widen_factor=0.5'
    add_cfg_options(parser, '--backbone-options', text)
    add_cfg_options(parser)
    text = "WIDTHxHEIGHT; default: the config's test size, else 224x224"
    add('--size', type=image_size, help=text)
    add('--batch', type=positive_int, default=1, help='batch size; default: 1')
    add('--device', default='cpu', help='cpu, cuda or cuda:N; default: cpu')
    text = 'CPU threads; default: %(default)s'
    add('--threads', type=positive_int, default=os.cpu_count(), help=text)
    text = 'fp32 disables TF32; default: fp32'
    add('--precision', choices=list(PRECISIONS), default='fp32', help=text)
    text = 'cpu: CPU time of all threads; on a busy machine use --threads 1'
    add('--clock', choices=list(CLOCKS), default='wall', help=text)
    text = 'time spent on timing the network; default: 10'
    add('--seconds', type=positive_number, default=10.0, help=text)
    text = 'images for the effective receptive field, 0 skips it; default: 4'
    add('--samples', type=whole_number, default=4, help=text)
    add('--out-dir', help='default: work_dirs/analysis/<network>')
    text = 'append the time of each kind of work to this CSV file, such as '
    text += 'results/analysis_cpu.csv'
    add('--record', type=Path, help=text)
    text = 'a first look: only a few runs of everything, less precise'
    add('--quick', action='store_true', help=text)
    text = 'also measure torch.compile; takes minutes'
    add('--compile', action='store_true', help=text)


def run(args: argparse.Namespace) -> None:
    try:
        from ..analysis import openmmlab
        from ..engine.run_config import require_writable
    except ImportError as error:
        missing = (error.name or '').partition('.')[0]
        raise UserError(
            f'{f"{missing} is not installed" if missing else error}; '
            'mmdet_shufflenetv2.analysis.analyze(model, input) works without '
            'it, from Python'
        ) from error
    device = require_device(args.device)
    setting = Setting(device, args.threads, args.precision, clock=args.clock)
    if args.record and args.quick:
        raise UserError('--record: a --quick run is not precise enough')
    model, size = openmmlab.load(
        args.network, args.backbone_options, args.cfg_options, args.checkpoint
    )
    height, width = args.size[::-1] if args.size else size
    name = re.sub(r'\.(py|ya?ml|json)$', '', Path(args.network).name)
    name = re.sub(r'[^\w.-]+', '_', name)
    folder = Path(args.out_dir or Path('work_dirs', 'analysis', name))
    require_writable(str(folder), 'output folder', '--out-dir')
    if args.record:
        records = Records(args.record, (*RECORDED, *describe(setting)))
        records.append([])
    setting.apply()
    is_trained = args.checkpoint is not None
    try:
        with nullcontext() if setting.on_gpu else refused_rather_than_killed():
            model.to(setting.device, setting.dtype)
            image = openmmlab.random_image(args.batch, (height, width))
            image = image.to(setting.device, setting.dtype)
            result = analyze(
                model,
                image,
                name=args.network,
                run=openmmlab.run,
                features=openmmlab.features,
                quick=args.quick,
                seconds=args.seconds,
                samples=args.samples,
                ways=(*DEFAULT_WAYS, *(['compiled'] if args.compile else [])),
                setting=setting,
                is_trained=is_trained,
                notes=openmmlab.prepare(
                    model, image, args.network, is_trained
                ),
                progress=_show,
            )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f'{args.network} at {args.batch} x {height} x {width} does not '
            'fit in memory; give a smaller --size or --batch'
        ) from error
    _show('')
    print(result.table(SHOWN))
    if args.record:
        records.append(kind_rows(result))
    for file, (what, write) in OUTPUTS.items():
        path = folder / file
        write(result, path)
        print(f'{path!s:{len(str(folder)) + 15}}  {what}')


def _show(stage: str) -> None:
    """Show the current stage on a line that the next stage overwrites."""
    if sys.stderr.isatty():
        print(f'\r{stage:60}\r', end='', file=sys.stderr, flush=True)
