"""Try mmdet's own models with this package, and write docs/mmdet.md.

Every model config of mmdet's wheel is built; the smallest model of each
folder of configs trains a step on synthetic images and predicts. That takes
about an hour; a run goes on where an earlier one stopped.
"""

# A model is tried in a process of its own, where one that is killed for
# memory takes nothing else along.
import argparse
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache, partial
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path

from ..compat.atomic_files import whole_file
from ..errors import UserError

COMMAND = 'python -m mmdet_shufflenetv2 mmdet-table'
PAGE = """# Which of mmdet's models work with this package

Made by `{command}`; not edited by hand.

With {versions}, no compiled mmcv, on a CPU: of {models} model configs in \
mmdet's wheel **{built} build as installed** and {optional} more ask for an \
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
OK = 'yes'
SIDE = 256  # pixels of the synthetic images; CornerNet wants whole 128s
SECONDS = 300  # of processor time for a step, or for a prediction
#: Packages that mmdet asks for only where a model needs them, and the words
#: by which its errors name them.
OPTIONAL = {
    **dict(mmpretrain='mmpretrain', transformers='transformers', timm='timm'),
    **dict(nltk='nltk', lap='lap', fairscale='fairscale'),
    **dict(motmetrics='motmetrics', detectron2='detectron2'),
    **{'scikit-image': 'skimage|scikit-image', 'scikit-learn': 'sklearn'},
}
VERSIONS = (
    *('torch', 'torchvision', 'mmdet', 'mmcv-lite', 'mmcv', 'mmengine'),
    *('mmpretrain', 'numpy'),
)


def config_root() -> Path:
    """Where mmdet's wheel has its configs."""
    import mmdet

    return Path(mmdet.__file__).parent / '.mim' / 'configs'


def model_configs(root: Path) -> list[str]:
    """Every config that may describe a model, as a path below ``root``."""
    paths = (p.relative_to(root) for p in root.glob('*/**/*.py'))
    return sorted(p.as_posix() for p in paths if '_base_' not in p.parts)


def _build(name: str):
    """The model of a config and its settings, or None if it has no model."""
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.logging import MessageHub
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope

    os.chdir(config_root().parent)  # teachers are named from there
    config = Config.fromfile(config_root() / name)
    if not config.get('model') or config.model.type == 'ImageClassifier':
        return None  # a base of others, or mmpretrain's
    for count in ('iter', 'epoch'):  # as a runner tells them
        MessageHub.get_current_instance().update_info(count, 0)
    init_default_scope(config.get('default_scope', 'mmdet'))
    if 'teacher_ckpt' in config.model:
        config.model.teacher_ckpt = None
    # On a CPU nothing is synchronised.
    return revert_sync_batchnorm(MODELS.build(config.model)), config.model


def build_model(name: str) -> dict:
    """Record of one config: whether its model builds, and how large it is."""
    built = _build(name)
    if built is None:
        return dict(build='no model')
    count = sum(p.numel() for p in built[0].parameters())
    return dict(build=OK, params_m=round(count / 1e6, 1))


def try_kind(name: str) -> dict:
    """Record of one model: whether it trains a step, and whether it predicts.

    Weights are random, two images are noise with random boxes and masks.
    """
    import torch

    torch.manual_seed(0)
    model, config = _build(name)
    for module in model.modules():
        if 'Pretrained' in str(getattr(module, 'init_cfg', None)):
            module.init_cfg = None
    with suppress(OSError):  # of what would be downloaded
        model.init_weights()

    def train() -> None:
        model.train()
        data = model.data_preprocessor(_inputs(config, True), True)
        total, _ = model.parse_losses(model.forward(**data, mode='loss'))
        total.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        if not grads or not all(grad.isfinite().all() for grad in grads):
            raise FloatingPointError('gradients are absent or not finite')
        torch.optim.SGD(model.parameters(), 1e-5).step()

    def predict() -> None:
        model.eval()
        data = model.data_preprocessor(_inputs(config, False), False)
        with torch.no_grad():
            found = model.forward(**data, mode='predict')
        if not len(found):
            raise ValueError('no result')

    return dict(train=_outcome(train), predict=_outcome(predict))


def _outcome(action: Callable[[], None]) -> str:
    import signal

    def stop(*_) -> None:
        raise TimeoutError(f'longer than {SECONDS} s of processor time')

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        action()
    except Exception as error:
        return _reason(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return OK


def _reason(error: BaseException) -> str:
    """An error in a line of a table, and what to install where it tells."""
    text = ' '.join(str(error).split()).replace(f'{config_root()}/', '')
    for package, words in OPTIONAL.items():
        if re.search(rf'\b({words})\b', text, re.I):
            return f'needs {package}'
    return f'{type(error).__name__}: {text[:110]}'


def _inputs(model: dict, training: bool) -> dict:
    """Synthetic inputs of the kind that a model takes.

    Two images in training; one in prediction, as mmdet's configs test.
    """
    import torch
    from mmdet.structures import ReIDDataSample
    from mmdet.testing import demo_track_inputs

    kind = (model.get('data_preprocessor') or {}).get('type', '')
    # SSD's last layers need images of the size that they are made for.
    side = max(SIDE, *_numbers(model, 'input_size'), 0)
    classes = min([10, *_numbers(model, 'num_classes')]) or 1
    if kind.endswith('ReIDDataPreprocessor'):
        samples = [ReIDDataSample().set_gt_label(k) for k in (0, 0, 1, 1)]
        crops = torch.randint(256, (4, 3, 256, 128), dtype=torch.uint8)
        return dict(inputs=list(crops), data_samples=samples)
    if kind.endswith('TrackDataPreprocessor'):
        shape = (3, side, side)
        return demo_track_inputs(
            *(1, 2, [0], shape, None, max(classes, 2)), with_mask=True
        )
    stride = 8 if 'semantic_head' in str(model) else 1
    proposed = 'rpn_head' not in str(model)
    # RTMDet takes masks for those of its sister that segments.
    masks = model.get('type') != 'RTMDet' or 'Ins' in str(model)
    images = partial(
        *(_images, 1 + training, side, classes, stride, proposed, masks)
    )
    if not training or not kind.endswith('MultiBranchDataPreprocessor'):
        return images()
    branches = 'sup', 'unsup_teacher', 'unsup_student'
    parts = {name: images() for name in branches}
    return {
        key: {name: part[key] for name, part in parts.items()}
        for key in ('inputs', 'data_samples')
    }


def _images(
    count: int,
    side: int,
    classes: int,
    stride: int,
    proposed: bool,
    masks: bool,
) -> dict:
    import torch
    from mmdet.testing import demo_mm_inputs, demo_mm_proposals

    shape = (3, side, side)
    # Labels of the demo are 1 or more, but for the only class.
    data = demo_mm_inputs(
        *(count, shape, None, max(classes, 2)),
        sem_seg_output_strides=stride,
        with_mask=masks,
        with_semantic=True,
    )
    proposals = demo_mm_proposals([shape] * count, 20)
    for sample, boxes in zip(data['data_samples'], proposals, strict=True):
        sample.gt_instances.labels.clamp_(max=classes - 1)
        if proposed:
            sample.proposals = boxes
        homography = torch.eye(3).numpy()
        sample.set_metainfo(
            dict(homography_matrix=homography, batch_input_shape=shape[1:])
        )
    return data


def _numbers(node: object, name: str) -> Iterator[int]:
    """Every positive number of that name in a config."""
    if isinstance(node, dict):
        if isinstance(node.get(name), int) and node[name] > 0:
            yield node[name]
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _numbers(item, name)


@cache
def versions() -> str:
    """The packages that a result depends on, in a line."""
    installed = {d.name: d.version for d in metadata.distributions()}
    return ', '.join(f'{n} {installed[n]}' for n in VERSIONS if n in installed)


Records = dict[tuple[str, str], dict]


def read_records(path: Path) -> Records:
    """Results by (what was tried, config), of these versions."""
    records = {}
    if path.exists():
        for line in path.read_text('utf-8').splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # a run was killed while it wrote this line
            if row['versions'] == versions():
                records[row['what'], row['config']] = row['result']
    return records


def _start() -> None:
    """Prepare a process that tries models."""
    import logging
    import warnings

    import torch

    import mmdet_shufflenetv2  # noqa: F401

    warnings.simplefilter('ignore')
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    from mmdet.utils import register_all_modules

    register_all_modules()


def try_all(
    what: str,
    attempt: Callable[[str], dict],
    configs: Sequence[str],
    path: Path,
) -> Iterator[str]:
    """Try every config that has no record yet; give each when it is done."""
    records = read_records(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pool = None
    for config in configs:
        if (what, config) not in records:
            # A fresh process now and then gives memory back.
            pool = pool or ProcessPoolExecutor(
                1, get_context('spawn'), _start, max_tasks_per_child=20
            )
            try:
                result = pool.submit(attempt, config).result()
            except BrokenProcessPool:
                pool, result = None, {what: 'its process was killed'}
            except Exception as error:
                result = {what: _reason(error)}
            row = dict(what=what, config=config, result=result)
            row['versions'] = versions()
            with open(path, 'a', encoding='utf-8') as file:
                # The line before may be torn.
                file.write(f'\n{json.dumps(row)}\n')
        yield config
    if pool:
        pool.shutdown()


def representatives(records: Records, configs: Sequence[str]) -> dict:
    """The smallest model that builds in each folder of configs, or None."""
    chosen: dict[str, tuple[float, str | None]] = {}
    for config in configs:
        record = records['build', config]
        if record['build'] != 'no model':
            folder = config.partition('/')[0]
            best = chosen.setdefault(folder, (float('inf'), None))
            size = record.get('params_m', float('inf'))
            chosen[folder] = min(best, (size, config), key=lambda x: x[0])
    return {folder: config for folder, (_, config) in chosen.items()}


def page(records: Records, configs: Sequence[str]) -> str:
    """The whole table as a page of Markdown."""
    found = {config: records['build', config]['build'] for config in configs}
    found = {c: result for c, result in found.items() if result != 'no model'}
    rows, trained = [], 0
    for folder, chosen in representatives(records, configs).items():
        own = [r for c, r in found.items() if c.startswith(f'{folder}/')]
        needs = {r.removeprefix('needs ') for r in own if r[:6] == 'needs '}
        tried = records.get(('kind', chosen), {'kind': 'not tried'})
        cells = [tried.get(k, tried.get('kind')) for k in ('train', 'predict')]
        trained += cells == [OK, OK]
        name = Path(chosen).stem if chosen else '-'
        built = f'{own.count(OK)} of {len(own)}'
        cells = [folder, built, ', '.join(sorted(needs)) or '-', name, *cells]
        rows.append(' | '.join(cell.replace('|', '/') for cell in cells))
    reasons = {}
    for config, result in found.items():
        if result != OK:
            reasons.setdefault(result.replace('|', '/'), []).append(config)
    optional = sum(r.startswith('needs ') for r in found.values())
    return PAGE.format(
        command=COMMAND,
        versions=versions(),
        models=len(found),
        built=list(found.values()).count(OK),
        optional=optional,
        kinds=len(rows),
        trained=trained,
        side=SIDE,
        rows='\n'.join(f'| {row} |' for row in rows),
        reasons='\n'.join(
            f'- {reason}: {", ".join(names)}'
            for reason, names in sorted(reasons.items())
        ),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'folders',
        nargs='*',
        metavar='FOLDER',
        help="only these folders of mmdet's configs, such as faster_rcnn",
    )
    parser.add_argument(
        '--out', default='docs/mmdet.md', help='page (default: %(default)s)'
    )
    parser.add_argument(
        '--records',
        default='work_dirs/mmdet_table.jsonl',
        help='results so far; delete it to begin anew (default: %(default)s)',
    )


def run(args: argparse.Namespace) -> None:
    from rich.progress import track

    path = Path(args.records)
    configs = model_configs(config_root())
    folders = {config.partition('/')[0] for config in configs}
    unknown = sorted(set(args.folders) - folders)
    if unknown:
        raise UserError(
            f"FOLDER: expected folders of mmdet's configs "
            f'({", ".join(sorted(folders))}), got {", ".join(unknown)}'
        )
    if args.folders:
        configs = [c for c in configs if c.partition('/')[0] in args.folders]

    tried = try_all('build', build_model, configs, path)
    list(track(tried, 'build', total=len(configs)))
    chosen = representatives(read_records(path), configs)
    names = [config for config in chosen.values() if config]
    tried = try_all('kind', try_kind, names, path)
    list(track(tried, 'train and predict', total=len(names)))
    text = page(read_records(path), configs)
    with whole_file(args.out, 'w', 'utf-8') as file:
        file.write(text)
    print(args.out)
