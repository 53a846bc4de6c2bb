"""Light-Head R-CNN over every backbone: Table 7."""

import argparse
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from mmengine.config import Config

from ..__main__ import locate, resource_root
from ..engine.argument_types import image_size, positive_int
from ..engine.run_config import UsageError, load_config
from ..paper.published import published_results
from .backbones import COLUMNS, FAMILIES
from .command import Command, effort, settings
from .detector import PARTS, Detector
from .memory import peak_mb, weights_mb
from .session import Case, Row
from .setting import Setting
from .speed import SPEEDS, joules, paper_columns, speed
from .timing import Effort, interleave, significant

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
# Parts with work that depends on values.
VALUES_COUNT = ('post-processing', 'detection', 'end to end')
# How configs with the recipe for one's own data end.
OWN_DATA = '_custom'


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
    return [path for path in found if not path.stem.endswith(OWN_DATA)]


def paper_images_per_s(stem: str) -> float | None:
    """Published speed of a config at `PAPER_BATCH` and `PAPER_SIZE`."""
    if stem not in TABLE7:
        return None
    family, column = TABLE7[stem]
    table = published_results()['table7_coco_lighthead']
    return table[family]['images_per_s'][table['complexities'].index(column)]


# A config's parts are measured one after the other, its column's with it.
@lru_cache(maxsize=2)
def _detector(
    path: Path, size: tuple[int, int], batch: int, setting: Setting
) -> Detector:
    return Detector(_config(path), size, batch, setting)


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
    detectors = {
        each: _detector(each, size, batch, setting)
        for each in (reference, path)
    }
    functions = {each: d.part(part) for each, d in detectors.items()}
    times = interleave(functions, setting.stopwatch(), effort)
    at_paper = (size, batch) == (PAPER_SIZE, PAPER_BATCH)
    papers = (None, None)
    if setting.on_gpu and at_paper and part in PAPER_PARTS:
        papers = [paper_images_per_s(p.stem) for p in (path, reference)]
    run = functions[path]
    columns = speed(times[path], times[reference], batch)
    if part in VALUES_COUNT:
        warnings = detectors[path].warning, columns['doubt']
        columns['doubt'] = ', '.join(filter(None, warnings))
    return [
        {
            **columns,
            **paper_columns(*papers),
            'weights_mb': significant(weights_mb(detectors[path].model)),
            'peak_mb': significant(peak_mb(run, setting.device)),
            'joules': joules(run, setting, with_energy),
        }
    ]


def _config(path: Path) -> Config:
    return load_config(str(path))


def cases(args: argparse.Namespace) -> list[Case]:
    """One case for each config and part, with its reference."""
    root = resource_root()
    paths = [Path(locate(text, root)) for text in args.configs]
    paths = paths or default_configs()
    for path in paths:
        # A config that is absent or broken is told at once.
        _config(path)
    if not paths:
        raise UsageError('configs: no lighthead_*.py was found')
    paths = sorted(paths, key=_place)
    firsts = {_post_processing(_config(path)): path for path in paths[::-1]}
    return [
        _case(path, part, batch, setting, args)
        for setting in settings(args)
        for batch in args.batch
        for path in paths
        for part in sorted(args.part, key=list(PARTS).index)
        if part != 'post-processing' or path in firsts.values()
    ]


def _place(path: Path) -> tuple[int, bool]:
    """Columns after each other, so that a reference is built once."""
    _, column = TABLE7.get(path.stem, ('', ''))
    is_reference = path.stem in REFERENCES.values()
    return (*COLUMNS, '').index(column), not is_reference


def _post_processing(cfg: Config) -> str:
    """All in a config that post-processing depends on, and maybe more.

    It is measured once for detectors that agree in it.
    """
    model = cfg.model
    heads = [dict(model.get('rpn_head') or {})]
    roi_head = model.get('roi_head') or {}
    if isinstance(roi_head.get('bbox_head'), dict):
        heads.append(dict(roi_head['bbox_head']))
    for head in heads:
        for name in list(head):
            if name.endswith('_channels') or name.startswith('loss_'):
                del head[name]
    return repr((heads, model.get('test_cfg')))


def _case(
    path: Path,
    part: str,
    batch: int,
    setting: Setting,
    args: argparse.Namespace,
) -> Case:
    _, column = TABLE7.get(path.stem, ('', ''))
    stem = REFERENCES.get(column, REFERENCES['140M'])
    if path.stem.endswith(OWN_DATA):
        stem += OWN_DATA
    reference = resource_root() / 'configs' / f'{stem}.py'
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
                f'{config}, batch {batch}, {precision}: detection takes '
                f'{abs(share):.0%} {"more" if share > 0 else "less"} time '
                'than network and post-processing measured apart'
            )
    return lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'configs',
        nargs='*',
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
        type=positive_int,
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
        *SPEEDS,
    ),
    shown={
        'column': 'column',
        'config': 'config',
        'part': 'part',
        'input': 'input',
        'batch': 'batch',
        'ms': 'median_ms',
        'images/s': 'images_per_s',
        'paper': 'paper_per_s',
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
