"""Light-Head R-CNN over every backbone: Table 7."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmengine.config import Config

from ..__main__ import resource_root
from ..engine.run_config import UsageError, load_config
from ..published import published_results
from .backbones import COLUMNS, FAMILIES, measured_joules
from .command import Command, effort, image_size, settings
from .detector_parts import PARTS, Detector
from .memory import peak_mb, weights_mb
from .session import Case, Row
from .setting import Setting
from .timing import (
    TIMED,
    Effort,
    compared,
    interleave,
    ratio_names,
    significant,
)

PAPER_SIZE, PAPER_BATCH = (1200, 800), 4
# What the paper's images/s may mean; it does not say.
PAPER_PARTS = ('network', 'detection', 'end to end')
REFERENCES = dict(
    zip(
        COLUMNS,
        (
            'lighthead_shufflenetv2_x0_5',
            'lighthead_shufflenetv2',
            'lighthead_shufflenetv2_x1_5',
            'lighthead_shufflenetv2_x2_0',
        ),
        strict=True,
    )
)


def _table7() -> dict[str, tuple[str, str]]:
    """Family and column of Table 7 by the stem of a config's name."""
    found = {}
    families = {**FAMILIES, 'shufflenet_v2_star': FAMILIES['shufflenet_v2']}
    for family, names in families.items():
        stem = f'lighthead_{family.replace("_", "")}'
        for column, name in zip(COLUMNS, names, strict=True):
            width = name[name.index('_x') + 1 :].removesuffix('_g3')
            if family == 'xception':
                width = name.removeprefix('xception_')
            found[f'{stem}_{width}'] = family, column
    found['lighthead_shufflenetv2'] = found.pop('lighthead_shufflenetv2_x1_0')
    return found


TABLE7 = _table7()


def default_configs() -> list[Path]:
    """Every Light-Head config but the recipe for one's own data."""
    found = sorted((resource_root() / 'configs').glob('lighthead_*.py'))
    return [path for path in found if not path.stem.endswith('_custom')]


def paper_images_per_s(stem: str) -> float | None:
    """Published speed of a config at `PAPER_BATCH` and `PAPER_SIZE`."""
    if stem not in TABLE7:
        return None
    family, column = TABLE7[stem]
    table = published_results()['table7_coco_lighthead']
    return table[family]['images_per_s'][table['complexities'].index(column)]


def _measure(
    path: Path,
    reference: Path,
    part: str,
    size: tuple[int, int],
    batch: int,
    setting: Setting,
    effort: Effort,
    with_energy: bool,
) -> list[Row]:
    def load(path: Path) -> Detector:
        return Detector(_config(path), size, batch, setting)

    mine = load(path)
    functions = {path: mine.part(part)}
    # Before a second network comes in, so that this one's memory counts.
    peak = peak_mb(functions[path], setting.device)
    if reference != path:
        other = load(reference).part(part)
        functions = {reference: other, **functions}
    times = interleave(functions, setting.stopwatch(), effort)
    time = times[path].columns()
    paper = paper_reference = None
    at_paper = (size, batch) == (PAPER_SIZE, PAPER_BATCH)
    if setting.on_gpu and at_paper and part in PAPER_PARTS:
        paper = paper_images_per_s(path.stem)
        paper_reference = paper_images_per_s(reference.stem)
    return [
        {
            **time,
            **compared('speed_ratio', times[reference], times[path]),
            'images_per_s': significant(batch * 1e3 / time['median_ms']),
            'paper_images_per_s': paper or '',
            'paper_speed_ratio': (
                round(paper / paper_reference, 3) if paper else ''
            ),
            'weights_mb': significant(weights_mb(mine.model)),
            'peak_mb': significant(peak),
            'joules': (
                measured_joules(functions[path], setting)
                if with_energy
                else 'not measured'
            ),
        }
    ]


def _config(path: Path) -> Config:
    return load_config(str(path))


def cases(args: argparse.Namespace) -> list[Case]:
    """One case for each config and part, with its reference."""
    paths = args.configs or default_configs()
    for path in paths:
        # A config that is absent or broken is told at once.
        _config(path)
    if not paths:
        raise UsageError('configs: no lighthead_*.py was found')
    return [
        _case(path, part, batch, setting, args)
        for setting in settings(args)
        for batch in args.batch
        for part in args.part
        for path in paths
    ]


def _case(
    path: Path,
    part: str,
    batch: int,
    setting: Setting,
    args: argparse.Namespace,
) -> Case:
    _, column = TABLE7.get(path.stem, ('', ''))
    folder = resource_root() / 'configs'
    reference = folder / f'{REFERENCES.get(column, REFERENCES["140M"])}.py'
    if path.resolve() == reference.resolve():
        reference = path
    width, height = args.size
    weight = {'training step': 4, 'post-processing': 0.3}.get(part, 1)
    return Case(
        key={
            'config': path.stem,
            'column': column,
            'part': part,
            'input': f'{width}x{height}',
            'batch': batch,
        },
        setting=setting,
        measure=partial(
            _measure,
            path,
            reference,
            part,
            args.size,
            batch,
            setting,
            effort(args),
            args.energy,
        ),
        label=f'{path.stem}, {part}, batch {batch}, {setting.precision}',
        cost=1 + weight * batch * width * height / 1e6,
    )


def sums(rows: Sequence[dict[str, str]]) -> list[str]:
    """How well network and post-processing explain the whole detection."""
    by_part = {}
    for row in rows:
        if row['status'] == 'ok':
            key = (row['config'], row['batch'], row['precision'])
            by_part.setdefault(key, {})[row['part']] = float(row['median_ms'])
    lines = []
    for (config, batch, precision), times in by_part.items():
        if {'network', 'post-processing', 'detection'} <= times.keys():
            parts = times['network'] + times['post-processing']
            share = times['detection'] / parts - 1
            lines.append(
                f'{config}, batch {batch}, {precision}: the whole takes '
                f'{share:+.0%} of network and post-processing apart'
            )
    return lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'configs',
        nargs='*',
        type=Path,
        metavar='CONFIG',
        help='default: configs/lighthead_*.py',
    )
    parser.add_argument(
        '--size',
        type=image_size,
        default=PAPER_SIZE,
        metavar='WIDTHxHEIGHT',
        help="of the resized image; default: the paper's, 1200x800",
    )
    parser.add_argument(
        '--batch',
        nargs='+',
        type=int,
        default=[PAPER_BATCH],
        help="default: the paper's, 4",
    )
    parser.add_argument(
        '--part', nargs='+', choices=PARTS, default=list(PARTS)
    )
    parser.add_argument(
        '--energy',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='a second per part on a GPU that counts it',
    )


COMMAND = Command(
    name='detectors',
    help='Table 7: images/s and memory of Light-Head R-CNN, part by part',
    example='--size 600x400 --batch 1 --part network "end to end"',
    columns=(
        'config',
        'column',
        'part',
        'input',
        'batch',
        *TIMED,
        *ratio_names('speed_ratio'),
        'images_per_s',
        'paper_images_per_s',
        'paper_speed_ratio',
        'weights_mb',
        'peak_mb',
        'joules',
    ),
    shown={
        'column': 'column',
        'config': 'config',
        'part': 'part',
        'input': 'input',
        'batch': 'batch',
        'ms': 'median_ms',
        'images/s': 'images_per_s',
        'paper': 'paper_images_per_s',
        'speed, ShuffleNet V2 = 1': 'speed_ratio',
        'p10': 'speed_ratio_p10',
        'p90': 'speed_ratio_p90',
        'paper ': 'paper_speed_ratio',
        'peak MB': 'peak_mb',
        'J': 'joules',
        'doubt': 'doubt',
    },
    cases=cases,
    add_arguments=add_arguments,
    effort=Effort(min_runs=5, max_runs=50, seconds=6, warmup_seconds=4),
    summary=sums,
)
