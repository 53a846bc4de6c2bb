"""Which of mmdet's own models work with this package: docs/mmdet.md."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from copy import deepcopy
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path

from ..errors import UserError
from ..measure.records import Records

PAGE = """# Which of mmdet's models work with this package

Made by `python -m mmdet_shufflenetv2 mmdet-table`; not edited by hand.

With {versions}, no compiled mmcv, on a CPU: of {models} model configs in \
mmdet's {where} **{built} build as installed** and {optional} more ask for an \
optional package. Of {kinds} kinds (folders of configs) **{trained} train a \
step and predict**: the smallest model of the folder, from random weights, on \
two synthetic images of {side}x{side} pixels. Weights of teachers are left \
out. Building and running say nothing about accuracy.

mmdet's own tools find the ops by `python -m mmdet_shufflenetv2 mmdet TOOL \
ARGUMENTS`, such as `mmdet browse_dataset CONFIG`; `train` finds them by a \
config whose `custom_imports` name this package.

| kind | configs that build | optional package | tried | trains a step | \
predicts |
| --- | --- | --- | --- | --- | --- |
{rows}

## Configs that do not build, and why

{reasons}
"""
OK, NO_MODEL = 'yes', 'no model'
SIDE = 256  # of the synthetic images; CornerNet needs a multiple of 128
# Packages that only some models need, as they appear in mmdet's errors.
OPTIONAL = re.compile(
    r'\b(mmpretrain|transformers|timm|nltk|lap|fairscale|motmetrics|'
    r'detectron2|scikit-image|sklearn)\b',
    re.I,
)
VERSIONS = 'torch torchvision mmdet mmcv-lite mmcv mmengine mmpretrain numpy'
# Of the file of results, which has a row per attempt.
COLUMNS = ('versions', 'config', 'build', 'params_m', 'train', 'predict')


def make_page(folders: Sequence[str], file: str | os.PathLike) -> str:
    """Try mmdet's models in these folders, or all, and return the page.

    Results are kept in the CSV file ``file``, where a later call continues.
    """
    root = config_root()
    paths = [path.relative_to(root) for path in root.glob('*/**/*.py')]
    known = {path.parts[0] for path in paths} - {'_base_'}
    if unknown := set(folders) - known:
        raise UserError(
            f"FOLDER: expected folders of mmdet's configs "
            f'({", ".join(sorted(known))}), got {", ".join(unknown)}'
        )
    chosen = set(folders) or known
    configs = sorted(p.as_posix() for p in paths if p.parts[0] in chosen)
    records = Records(file, COLUMNS)
    records.append([])
    built = try_all('build', build_model, configs, records)
    small = filter(None, smallest({c: built[c] for c in configs}).values())
    found = try_all('train', try_model, small, records)
    return write_page({c: found[c] for c in configs}, folders)


def try_all(
    what: str,
    attempt: Callable[[str], dict],
    configs: Iterable[str],
    records: Records,
) -> dict[str, dict[str, str]]:
    """Try every config without a ``what`` record for the installed versions.

    Attempts run in a worker process, which may run out of memory and be
    killed. Each result is recorded immediately.

    Returns:
        All results for these versions, by config.
    """
    from rich.progress import track

    here, pool = versions(), None
    rows = records.find({'versions': here})
    tried = {row['config'] for row in rows if row[what]}
    for config in track([c for c in configs if c not in tried], what):
        pool = pool or ProcessPoolExecutor(
            1,
            get_context('spawn'),
            prepare_process,
            max_tasks_per_child=20,  # bounds leaked memory
        )
        try:
            result = pool.submit(attempt, config).result()
        except BrokenProcessPool:
            pool, result = None, {what: 'its process was killed'}
        except Exception as error:
            result = {what: reason(error)}
        records.append([dict(versions=here, config=config, **result)])
    if pool:
        pool.shutdown()
    found: dict[str, dict[str, str]] = {}
    for row in records.find({'versions': here}):
        known = {column: text for column, text in row.items() if text}
        found.setdefault(row['config'], {}).update(known)
    return found


def prepare_process() -> None:
    """Register mmdet's modules, and log only errors."""
    import logging
    import warnings

    import torch
    from mmdet.utils import register_all_modules

    warnings.simplefilter('ignore')
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    register_all_modules()


def config_root() -> Path:
    """The folder of configs in mmdet's wheel."""
    import mmdet

    return Path(mmdet.__file__).parent / '.mim' / 'configs'


def read_model(name: str):
    """Build a config's model; return it and its config, None if it has none.

    A base config, and mmpretrain's classifiers, count as having none.
    """
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.logging import MessageHub
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope

    os.chdir(config_root().parent)  # teacher configs are relative to it
    config = Config.fromfile(config_root() / name)
    if not config.get('model') or config.model.type == 'ImageClassifier':
        return None
    for count in 'iter', 'epoch':  # set by the runner in training
        MessageHub.get_current_instance().update_info(count, 0)
    init_default_scope(config.get('default_scope', 'mmdet'))
    if 'teacher_ckpt' in config.model:
        config.model.teacher_ckpt = None
    # SyncBN does not run on a CPU.
    return revert_sync_batchnorm(MODELS.build(config.model)), config.model


def build_model(name: str) -> dict:
    """Record whether a config's model builds, and its size."""
    built = read_model(name)
    if built is None:
        return dict(build=NO_MODEL)
    count = sum(p.numel() for p in built[0].parameters())
    return dict(build=OK, params_m=round(count / 1e6, 1))


def try_model(name: str) -> dict:
    """Record whether a model trains one step from scratch and predicts."""
    import torch
    from mmengine.optim import OptimWrapper

    torch.manual_seed(0)
    model, config = read_model(name)
    for module in model.modules():
        if 'Pretrained' in str(getattr(module, 'init_cfg', None)):
            module.init_cfg = None
    with suppress(OSError):  # a file that would have to be downloaded
        model.init_weights()
    clip = dict(max_norm=35, error_if_nonfinite=True)
    optimizer = torch.optim.SGD(model.parameters(), 1e-5)
    wrapper, found = OptimWrapper(optimizer, clip_grad=clip), {}
    for step in 'train', 'predict':
        model.train(step == 'train')
        try:
            data = inputs(config, step == 'train')
            if step == 'train':
                model.train_step(data, wrapper)
            else:
                with torch.no_grad():
                    model.test_step(data)
            found[step] = OK
        except Exception as error:
            found[step] = reason(error)
    return found


def inputs(model: dict, training: bool) -> dict:
    """Make a batch of noise with random boxes and masks for a model.

    Two images in training; one in prediction, as in mmdet's test configs.
    """
    import torch
    from mmdet.structures import ReIDDataSample
    from mmdet.testing import (
        demo_mm_inputs,
        demo_mm_proposals,
        demo_track_inputs,
    )

    text = str(model)
    kind = (model.get('data_preprocessor') or {}).get('type', '')
    # SSD's last layers need the image size that they were designed for.
    sizes = re.findall(r"'input_size': (\d+)", text)
    side = max([SIDE, *map(int, sizes)])
    shape, count = (3, side, side), 1 + training
    counts = re.findall(r"'num_classes': ([1-9]\d*)", text)
    classes = min([10, *map(int, counts)])
    # mmdet draws demo labels from 1 to num_classes - 1; clamped below.
    options = dict(num_classes=max(classes, 2), with_mask=True)
    if kind.endswith('ReIDDataPreprocessor'):
        crops = torch.randint(256, (4, 3, 256, 128), dtype=torch.uint8)
        samples = [ReIDDataSample().set_gt_label(k) for k in (0, 0, 1, 1)]
        return dict(inputs=list(crops), data_samples=samples)
    if kind.endswith('TrackDataPreprocessor'):
        return demo_track_inputs(1, 2, [0], shape, **options)
    # RTMDet treats masks as a sign of its instance segmentation variant.
    options['with_mask'] = model.get('type') != 'RTMDet' or 'Ins' in text
    options['sem_seg_output_strides'] = 8 if 'semantic_head' in text else 1
    data = demo_mm_inputs(count, shape, with_semantic=True, **options)
    proposals = demo_mm_proposals([shape] * count, 20)
    for sample, boxes in zip(data['data_samples'], proposals, strict=True):
        sample.gt_instances.labels.clamp_(max=classes - 1)
        if 'rpn_head' not in text:
            sample.proposals = boxes
        homography = torch.eye(3).numpy()
        sample.set_metainfo(
            dict(homography_matrix=homography, batch_input_shape=shape[1:])
        )
    if not training or not kind.endswith('MultiBranchDataPreprocessor'):
        return data
    branches = 'sup', 'unsup_teacher', 'unsup_student'
    return {k: {b: deepcopy(v) for b in branches} for k, v in data.items()}


def reason(error: Exception) -> str:
    """An error as one table cell, or the optional package that it needs."""
    text = ' '.join(str(error).split()).replace(f'{config_root()}/', '')
    package = OPTIONAL.search(text.replace('skimage', 'scikit-image'))
    if package:
        return f'needs {package[0].lower()}'
    return f'{type(error).__name__}: {text[:110]}'.replace('|', '/')


def versions() -> str:
    """The versions of the packages that results depend on, in one line."""
    installed = {d.name: d.version for d in metadata.distributions()}
    names = [name for name in VERSIONS.split() if name in installed]
    return ', '.join(f'{name} {installed[name]}' for name in names)


def smallest(records: dict[str, dict]) -> dict[str, str | None]:
    """Map each config folder to its smallest model that builds, or None."""
    folders = {}
    for config, record in records.items():
        if record['build'] != NO_MODEL:
            sizes = folders.setdefault(config.partition('/')[0], {})
            if record['build'] == OK:
                size = record.get('params_m', '')
                try:
                    sizes[config] = float(size)
                except ValueError as error:
                    raise UserError(
                        f'records of {config}: params_m: expected a number, '
                        f'got {size!r}'
                    ) from error
    return {k: min(v, key=v.get, default=None) for k, v in folders.items()}


def write_page(records: dict[str, dict], folders: Sequence[str] = ()) -> str:
    """Format all records, of these folders or all, as a page of Markdown."""
    found = {config: record['build'] for config, record in records.items()}
    found = {c: result for c, result in found.items() if result != NO_MODEL}
    rows, reasons = [], {}
    for folder, tried in smallest(records).items():
        own = [r for c, r in found.items() if c.startswith(f'{folder}/')]
        needs = {r.removeprefix('needs ') for r in own if r[:6] == 'needs '}
        built = f'{own.count(OK)} of {len(own)}'
        steps = records.get(tried, dict(train='not tried'))
        steps = steps['train'], steps.get('predict', steps['train'])
        name = Path(tried).stem if tried else '-'
        rows.append((folder, built, ', '.join(sorted(needs)), name, *steps))
    for config, result in found.items():
        if result != OK:
            reasons.setdefault(result, []).append(config)
    return PAGE.format(
        versions=versions(),
        models=len(found),
        where=f'folders {", ".join(folders)}' if folders else 'wheel',
        built=list(found.values()).count(OK),
        optional=sum(r.startswith('needs ') for r in found.values()),
        kinds=len(rows),
        trained=sum(row[-2:] == (OK, OK) for row in rows),
        side=SIDE,
        rows='\n'.join(f'| {" | ".join(c or "-" for c in r)} |' for r in rows),
        reasons='\n'.join(
            f'- {why}: {", ".join(names)}'
            for why, names in sorted(reasons.items())
        ),
    )
