"""Which of mmdet's own models work here: tried one by one, and told.

`build_model` and `try_kind` run in a process of their own, where a model that
is killed for memory takes nothing else along. Every record is one line of
JSON, so that a run goes on where an earlier one stopped.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path

OK = 'yes'
SIDE = 256  # pixels of the synthetic images; CornerNet wants whole 128s
#: Packages that mmdet asks for only where a model needs them, and the words
#: by which its errors name them.
OPTIONAL = {
    name: name
    for name in (
        *('mmpretrain', 'transformers', 'timm', 'nltk', 'lap', 'fairscale'),
        *('motmetrics', 'detectron2'),
    )
} | {'scikit-image': 'skimage|scikit-image', 'scikit-learn': 'sklearn'}
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
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.glob('*/**/*.py')
        if '_base_' not in path.parts
    )


def _load(name: str) -> object:
    """A config, for its model alone: without files to load or download."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    os.chdir(config_root().parent)  # teachers are named from there
    config = Config.fromfile(config_root() / name)
    if config.get('model'):
        init_default_scope(config.get('default_scope', 'mmdet'))
        if 'teacher_ckpt' in config.model:
            config.model.teacher_ckpt = None
    return config


def build_model(name: str) -> dict:
    """Record of one config: whether its model builds, and how large it is."""
    from mmdet.registry import MODELS

    config = _load(name)
    if not config.get('model'):
        return dict(build='no model')
    key = json.dumps(config.model, sort_keys=True, default=str)
    if key not in _sizes:
        with _no_random_weights(), _process_group(config.model):
            model = MODELS.build(config.model)
        count = sum(p.numel() for p in model.parameters())
        _sizes[key] = round(count / 1e6, 1)
    return dict(build=OK, params_m=_sizes[key])


@contextmanager
def _process_group(model: dict) -> Iterator[None]:
    """A group of this process alone while mmcv's SyncBatchNorm is built.

    It cannot be built without; PyTorch's wants a GPU where there is one.
    """
    from torch import distributed

    if 'MMSyncBN' not in str(model):
        yield
        return
    distributed.init_process_group(
        'gloo', store=distributed.HashStore(), rank=0, world_size=1
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


#: Millions of parameters of the models that this process has built: many
#: configs differ only in their schedule.
_sizes: dict[str, float] = {}


@contextmanager
def _no_random_weights() -> Iterator[None]:
    """Leave new weights as they are in memory: drawing them takes longest."""
    from torch.nn import init

    drawing = ('uniform_', 'normal_', 'kaiming_uniform_', 'kaiming_normal_')
    drawing += ('xavier_uniform_', 'xavier_normal_', 'trunc_normal_')
    before = {name: getattr(init, name) for name in drawing}
    for name in drawing:
        setattr(init, name, lambda tensor, *args, **kwargs: tensor)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(init, name, function)


def try_kind(name: str) -> dict:
    """Record of one model: whether it trains a step, and whether it predicts.

    Weights are random, two images are noise with random boxes and masks.
    """
    import torch
    from mmdet.registry import MODELS

    import mmdet_shufflenetv2  # noqa: F401

    torch.manual_seed(0)
    config = _load(name)
    with _process_group(config.model):
        model = MODELS.build(config.model)
    return _try_model(model, _inputs(config.model))


def _try_model(model, inputs: Callable[[], dict]) -> dict:
    import torch

    def train() -> None:
        model.train()
        data = model.data_preprocessor(inputs(), True)
        total, _ = model.parse_losses(model.forward(**data, mode='loss'))
        total.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        if not grads or not all(grad.isfinite().all() for grad in grads):
            raise FloatingPointError('gradients are absent or not finite')
        torch.optim.SGD(model.parameters(), 1e-5).step()

    def predict() -> None:
        model.eval()
        data = model.data_preprocessor(inputs(), False)
        with torch.no_grad():
            found = model.forward(**data, mode='predict')
        if not len(found):
            raise ValueError('no result')

    return dict(train=_outcome(train), predict=_outcome(predict))


def _outcome(action: Callable[[], None]) -> str:
    try:
        action()
    except Exception as error:
        return _reason(error)
    return OK


def _reason(error: BaseException) -> str:
    """An error in a line of a table, and what to install where it tells."""
    text = ' '.join(str(error).split()).replace(f'{config_root()}/', '')
    for package, words in OPTIONAL.items():
        if re.search(rf'\b({words})\b', text, re.I):
            return f'needs {package}'
    return f'{type(error).__name__}: {text[:110]}'


def _inputs(model: dict) -> Callable[[], dict]:
    """What makes synthetic inputs of the kind that a model takes."""
    import torch
    from mmdet.structures import ReIDDataSample
    from mmdet.testing import (
        demo_mm_inputs,
        demo_mm_proposals,
        demo_track_inputs,
    )

    # SSD's last layers need images of the size that they are made for.
    side = max(SIDE, *_numbers(model, 'input_size'), 0)
    shape = (3, side, side)
    classes = min([10, *_numbers(model, 'num_classes')]) or 1
    preprocessor = (model.get('data_preprocessor') or {}).get('type', '')

    def images() -> dict:
        # Labels of the demo are 1 or more, but for the only class.
        data = demo_mm_inputs(
            *(2, shape, None, max(classes, 2)),
            sem_seg_output_strides=8 if 'semantic_head' in str(model) else 1,
            with_mask=True,
            with_semantic=True,
        )
        proposals = demo_mm_proposals([shape] * 2, 20)
        for sample, boxes in zip(data['data_samples'], proposals, strict=True):
            sample.gt_instances.labels.clamp_(max=classes - 1)
            sample.proposals = boxes
            sample.set_metainfo(
                dict(
                    homography_matrix=torch.eye(3).numpy(),
                    batch_input_shape=shape[1:],
                )
            )
        return data

    def branches() -> dict:
        parts = {
            name: images()
            for name in ('sup', 'unsup_teacher', 'unsup_student')
        }
        return {
            key: {name: part[key] for name, part in parts.items()}
            for key in ('inputs', 'data_samples')
        }

    def people() -> dict:
        samples = [ReIDDataSample().set_gt_label(k) for k in (0, 0, 1, 1)]
        crops = torch.randint(256, (4, 3, 256, 128), dtype=torch.uint8)
        return dict(inputs=list(crops), data_samples=samples)

    def videos() -> dict:
        return demo_track_inputs(
            *(1, 2, [0], shape, None, max(classes, 2)), with_mask=True
        )

    kinds = {
        'MultiBranchDataPreprocessor': branches,
        'ReIDDataPreprocessor': people,
        'TrackDataPreprocessor': videos,
    }
    return kinds.get(preprocessor.rpartition('.')[2], images)


def _numbers(node: object, name: str) -> Iterator[int]:
    """Every number of that name in a config."""
    if isinstance(node, dict):
        if isinstance(node.get(name), int) and node[name] > 0:
            yield node[name]
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _numbers(item, name)


class Records:
    """Results by (what was tried, config), in a file of JSON lines.

    Args:
        path: The file; results of other versions in it are not used.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.versions = path, versions()
        self.found: dict[tuple[str, str], dict] = {}
        if path.exists():
            for line in path.read_text('utf-8').splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # a run was killed while it wrote this line
                if row['versions'] == self.versions:
                    self.found[row['what'], row['config']] = row['result']

    def add(self, what: str, config: str, result: dict) -> None:
        self.found[what, config] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        row = dict(
            what=what, config=config, result=result, versions=self.versions
        )
        with open(self.path, 'a', encoding='utf-8') as file:
            file.write('\n' * (file.tell() > 0 and not _ends_line(self.path)))
            file.write(json.dumps(row) + '\n')


def _ends_line(path: Path) -> bool:
    with open(path, 'rb') as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b'\n'


def versions() -> str:
    """The packages that a result depends on, in a line."""
    found = []
    for name in VERSIONS:
        try:
            found.append(f'{name} {metadata.version(name)}')
        except metadata.PackageNotFoundError:
            continue
    return ', '.join(found)


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
    records: Records,
    advance: Callable[[], None],
) -> None:
    """Try every config that has no record yet; record errors by name."""
    pool = None
    for config in configs:
        if (what, config) not in records.found:
            # A fresh process now and then gives memory back.
            pool = pool or ProcessPoolExecutor(
                1,
                mp_context=get_context('spawn'),
                initializer=_start,
                max_tasks_per_child=40,
            )
            try:
                result = pool.submit(attempt, config).result()
            except BrokenProcessPool:
                pool, result = None, {what: 'its process was killed'}
            except Exception as error:
                result = {what: _reason(error)}
            records.add(what, config, result)
        advance()
    if pool:
        pool.shutdown()


def representatives(records: Records, configs: Sequence[str]) -> dict:
    """The smallest model that builds in each folder of configs, or None."""
    chosen: dict[str, str | None] = {}
    sizes: dict[str, float] = {}
    for config in configs:
        record = records.found['build', config]
        folder = config.partition('/')[0]
        if record['build'] == 'no model':
            continue
        chosen.setdefault(folder, None)
        size = record.get('params_m')
        if size is not None and size < sizes.get(folder, float('inf')):
            chosen[folder], sizes[folder] = config, size
    return chosen


def page(records: Records, configs: Sequence[str], command: str) -> str:
    """The whole table as a page of Markdown."""
    chosen = representatives(records, configs)
    rows, reasons = [], {}
    counts = dict(models=0, built=0, optional=0, kinds=0, tried=0)
    for folder, representative in chosen.items():
        found = {
            config: records.found['build', config]['build']
            for config in configs
            if config.startswith(f'{folder}/')
        }
        found = {c: r for c, r in found.items() if r != 'no model'}
        built = sum(result == OK for result in found.values())
        needs = {r for r in found.values() if r.startswith('needs ')}
        counts['models'] += len(found)
        counts['built'] += built
        for config, result in found.items():
            if result != OK:
                reasons.setdefault(result, []).append(config)
            counts['optional'] += result.startswith('needs ')
        tried = records.found.get(('kind', representative), {})
        cells = [
            tried.get(key, tried.get('kind', 'not tried'))
            for key in ('train', 'predict')
        ]
        counts['tried'] += bool(tried)
        counts['kinds'] += cells == [OK, OK]
        name = Path(representative).stem if representative else '-'
        built_of = f'{built} of {len(found)}'
        extra = ', '.join(sorted(r.removeprefix('needs ') for r in needs))
        rows.append([folder, built_of, extra or '-', name, *cells])
    lines = [
        "# Which of mmdet's models work with this package\n",
        f'Made by `{command}`; not edited by hand.\n',
        f'With {records.versions}, no compiled mmcv, on a CPU: of '
        f"{counts['models']} model configs in mmdet's wheel "
        f'**{counts["built"]} build as installed** and '
        f'{counts["optional"]} more ask for an optional package. Of '
        f'{len(chosen)} kinds (folders of configs) {counts["tried"]} were '
        f'tried, and **{counts["kinds"]} of these train '
        'a step and predict**: the smallest model of the folder, from random '
        f'weights, on two synthetic images of {SIDE}x{SIDE} pixels. Weights '
        'of teachers are left out. Building and running say nothing about '
        'accuracy.\n',
        "mmdet's own tools find the ops by "
        '`python -m mmdet_shufflenetv2 mmdet TOOL ARGUMENTS`, such as '
        '`mmdet browse_dataset CONFIG`; `train` finds them by a config whose '
        '`custom_imports` name this package.\n',
        '| kind | configs that build | optional package | tried | trains a '
        'step | predicts |',
        '| --- | --- | --- | --- | --- | --- |',
    ]
    lines += [
        f'| {" | ".join(cell.replace("|", "/") for cell in row)} |'
        for row in rows
    ]
    lines.append('\n## Configs that do not build, and why\n')
    for reason, names in sorted(reasons.items()):
        lines.append(f'- {reason.replace("|", "/")}: {", ".join(names)}')
    return '\n'.join(lines) + '\n'
