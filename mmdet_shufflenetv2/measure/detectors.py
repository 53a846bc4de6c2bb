"""Light-Head R-CNN over every backbone, part by part: Table 7.

Networks are compared by the part `network`. Post-processing has the same to
do after each of them (see `detector`), so it is measured once for detectors
that share it.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from mmengine.config import Config

from ..engine.run_config import find_config, load_config, packaged_config
from ..errors import UserError
from .backbones import FAMILIES, TABLE8
from .benchmark import Benchmark, Row, Time, joined
from .detector import PARTS, Detector
from .memory import peak_mb, weights_mb
from .setting import Setting
from .speed import SPEEDS, joules, speed
from .timing import Effort, significant

HELP = 'Table 7: images/s and memory of Light-Head R-CNN, part by part'
EXAMPLE = '--size 600x400 --batch 1 --part network "end to end"'
THREADS, MODE = None, None
EFFORT = Effort(min_runs=5, max_runs=50, seconds=6, warmup_seconds=4)
COLUMNS = ('config', 'column', 'part', 'input', 'batch', *SPEEDS)

PAPER_SIZE, PAPER_BATCH = (1200, 800), 4
# On a CPU, where 22 configs at the full size would take a night.
CPU_SIZE = (600, 400)
# Parts with work that depends on values.
VALUES_COUNT = ('post-processing', 'detection', 'end to end')
# Beginnings of a head's arguments that only training reads.
TRAINING = ('loss_', 'ohem_')
# How configs with the recipe for one's own data end.
OWN_DATA = '_custom'
REFERENCES = {
    '40M': 'lighthead_shufflenetv2_x0_5',
    '140M': 'lighthead_shufflenetv2',
    '300M': 'lighthead_shufflenetv2_x1_5',
    '500M': 'lighthead_shufflenetv2_x2_0',
}


def _table7() -> dict[str, str]:
    """The column of Table 7 by the stem of a config's name."""
    found = {}
    families = {**FAMILIES, 'shufflenet_v2_star': FAMILIES['shufflenet_v2']}
    for family, names in families.items():
        stem = f'lighthead_{family.replace("_", "")}'
        for column, name in zip(TABLE8, names, strict=True):
            width = name[name.index('_x', 8) + 1 :].removesuffix('_g3')
            found[f'{stem}_{width}'] = column
    found['lighthead_shufflenetv2'] = found.pop('lighthead_shufflenetv2_x1_0')
    return found


TABLE7 = _table7()


def column_of(stem: str) -> str:
    """The column of Table 7 that a config is of; empty if of none."""
    return TABLE7.get(stem, '')


def reference_of(stem: str) -> str:
    """The config that a config is compared with: ShuffleNet V2's.

    Of a config for one's own data it is such a one, too.
    """
    reference = REFERENCES.get(column_of(stem), REFERENCES['140M'])
    return reference + OWN_DATA * stem.endswith(OWN_DATA)


def _own(stem: str) -> Path:
    return packaged_config(f'mmdet_shufflenetv2::{stem}.py')


def default_configs() -> list[Path]:
    """Every Light-Head config but the recipes for one's own data."""
    found = sorted(_own(REFERENCES['140M']).parent.glob('lighthead_*.py'))
    return [path for path in found if not path.stem.endswith(OWN_DATA)]


def benchmarks(
    settings: Sequence[Setting],
    configs: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    batch: Sequence[int] = (PAPER_BATCH,),
    part: Sequence[str] = tuple(PARTS),
    energy: bool = True,
) -> list[Benchmark]:
    """Each part of each detector, the telling part first.

    Args:
        settings: to measure each under.
        configs: files; `default_configs` by default.
        size: width and height of the resized image; by default the paper's,
            on a CPU `CPU_SIZE`.
        batch: images.
        part: of `PARTS`.
        energy: whether to measure it where there is a counter.

    Raises:
        UserError: a config is absent or broken.
    """
    paths = [find_config(text, None)[0] for text in configs]
    paths = sorted(paths or default_configs(), key=_place)
    if not paths:
        raise UserError('configs: no lighthead_*.py was found')
    firsts = {_post_processing(_config(path)): path for path in paths[::-1]}
    return [
        _benchmark(
            path,
            each,
            size or (PAPER_SIZE if setting.on_gpu else CPU_SIZE),
            images,
            setting,
            energy,
        )
        for setting in settings
        for images in batch
        for each in sorted(part, key=list(PARTS).index)
        for path in paths
        if each != 'post-processing' or path in firsts.values()
    ]


def _config(path: Path) -> Config:
    return load_config(str(path))


def _place(path: Path) -> tuple[int, bool]:
    """Columns after each other, so that a reference is built once."""
    column = [*TABLE8, ''].index(column_of(path.stem))
    return column, path.stem not in REFERENCES.values()


def _post_processing(cfg: Config) -> str:
    """All in a config that post-processing depends on, and maybe more."""
    model = cfg.model
    heads = [dict(model.get('rpn_head') or {})]
    roi_head = model.get('roi_head') or {}
    if isinstance(roi_head.get('bbox_head'), dict):
        heads.append(dict(roi_head['bbox_head']))
    for head in heads:
        for name in list(head):
            if name.endswith('_channels') or name.startswith(TRAINING):
                del head[name]
    return repr((heads, model.get('test_cfg')))


def _benchmark(
    path: Path,
    part: str,
    size: tuple[int, int],
    batch: int,
    setting: Setting,
    energy: bool,
) -> Benchmark:
    reference = _own(reference_of(path.stem))
    if path.resolve() == reference.resolve():
        reference = path
    width, height = size
    weight = {'training step': 4, 'post-processing': 0.3}.get(part, 1)
    return Benchmark(
        key={
            'config': path.stem,
            'column': column_of(path.stem),
            'part': part,
            'input': f'{width}x{height}',
            'batch': batch,
        },
        setting=setting,
        measure=partial(
            _measure,
            path=path,
            reference=reference,
            part=part,
            size=size,
            batch=batch,
            setting=setting,
            energy=energy,
        ),
        label=f'{path.stem}, {part}, batch {batch}, {setting.precision}',
        cost=1 + weight * batch * width * height / 1e6,
    )


# A reference stays, for it is everybody's in its column.
@lru_cache(maxsize=2)
def _detector(
    path: Path, size: tuple[int, int], batch: int, setting: Setting
) -> Detector:
    return Detector(_config(path), size, batch, setting)


def _measure(
    time: Time,
    path: Path,
    reference: Path,
    part: str,
    size: tuple[int, int],
    batch: int,
    setting: Setting,
    energy: bool,
) -> list[Row]:
    detectors = {
        each: _detector(each, size, batch, setting)
        for each in (reference, path)
    }
    functions = {each: d.part(part) for each, d in detectors.items()}
    times = time(functions)
    function = functions[path]
    columns = speed(times[path], times[reference], batch)
    if part in VALUES_COUNT:
        columns['warning'] = joined(
            detectors[path].warning, columns['warning']
        )
    return [
        {
            **columns,
            'weights_mb': significant(weights_mb(detectors[path].model)),
            'peak_mb': significant(peak_mb(function, setting.device)),
            'joules': joules(function, setting, energy),
        }
    ]


def summary(rows: Sequence[dict[str, str]]) -> list[str]:
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
