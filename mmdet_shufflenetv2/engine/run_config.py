"""From a config file and a command line to a config that can run."""

import logging
import os
import tempfile
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.utils import import_modules_from_strings

from ..datasets.checks import check_coco_file
from ..datasets.custom import find_coco_splits, read_classes
from .checkpoint_meta import checkpoint_classes
from .unknown_options import explain_unknown_option

SPLITS = 'train', 'val', 'test'


class UsageError(ValueError):
    """Something the user gave cannot work; the message says what would."""


def load_config(
    path: str, options: dict | None = None, work_dir: str | None = None
) -> Config:
    """Read a config, apply ``--cfg-options`` and choose the work dir.

    Args:
        path: A file, or ``package::file`` as in a config's ``_base_``.
        options: Keys and values to override.
        work_dir: Overrides the config's; by default
            ``work_dirs/<name of the config>``.

    Raises:
        UsageError: If there is no such file, it is no config, an option
            has no effect, or mmpretrain is needed and not installed.
    """
    file = packaged_config(path) if '::' in path else Path(path)
    if not file.is_file():
        raise UsageError(
            f'config not found: {path}; give one of configs/*.py, a path or '
            'package::file'
        )
    cfg = _read(file)
    if cfg.get('default_scope') == 'mmpretrain' and not find_spec(
        'mmpretrain'
    ):
        raise UsageError(
            f'{path} trains a classifier and needs mmpretrain; install it '
            'with  pip install mmpretrain==1.2.0'
        )
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    if options:
        problem = explain_unknown_option(cfg, options)
        if problem:
            raise UsageError(problem)
        cfg.merge_from_dict(options)
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / file.stem)
    read_images_strictly(cfg)
    return cfg


def _read(file: Path) -> Config:
    try:
        return Config.fromfile(file, import_custom_modules=False)
    except Exception as error:
        # A config is a program, and may fail in any way.
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f' at line {f.lineno}' for f in frames if f[0] == str(file)]
        raise UsageError(
            f'{file} cannot be read as a config: {type(error).__name__}'
            f'{"".join(lines[-1:])}: {error}'.rstrip(': ')
        ) from error


def packaged_config(path: str) -> Path:
    """Where an installed OpenMMLab package keeps a config.

    Args:
        path: ``package::file``.

    Raises:
        UsageError: If there is no such package.
    """
    package, _, file = path.partition('::')
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise UsageError(
            f'config not found: {path}; the package {package!r} is not '
            'installed'
        )
    folder = Path(spec.origin).parent
    # A checkout that is used in place has them beside the package.
    places = [folder / '.mim' / 'configs' / file, folder.parent / 'configs']
    return places[0] if places[0].is_file() else places[1] / file


def dicts_of(node) -> Iterator[dict]:
    """Give every dict inside of a part of a config, itself included."""
    if isinstance(node, dict):
        yield node
        node = node.values()
    elif not isinstance(node, list | tuple):
        return
    for value in node:
        yield from dicts_of(value)


def read_images_strictly(cfg: Config) -> None:
    """Exchange mmcv's image loading for the one that names a bad file.

    The configs name mmcv's, which mmdet's own tools look for.
    """
    loaders = [cfg.get(f'{name}_dataloader') for name in SPLITS]
    for node in dicts_of(loaders):
        if node.get('type') == 'LoadImageFromFile':
            node['type'] = 'mmdet.LoadImageStrict'


def require_writable(
    folder: str, name: str = 'work dir', option: str = '--work-dir'
) -> None:
    """Make a folder, or say that nothing can be written there.

    Args:
        folder: Its path.
        name, option: What the message calls it, and what changes it.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f'cannot write to the {name} {folder}: {error.strerror}; '
            f'choose another with {option}'
        ) from error


def set_classes(cfg: Config, classes: tuple[str, ...]) -> None:
    """Give the model as many classes as the data has.

    Args:
        cfg: Changed in place: each ``num_classes`` of the model, and the
            ``metainfo`` of every data set.
        classes: Their names, in the order of the labels.
    """

    for node in dicts_of(cfg.model):
        if 'num_classes' in node:
            node['num_classes'] = len(classes)
    for _, dataset in datasets_of(cfg):
        dataset.metainfo = dict(classes=tuple(classes))


def adopt_classes(cfg: Config, checkpoint: dict) -> None:
    """Give the model the checkpoint's classes if the test data has them.

    A checkpoint of other classes is left to the comparison of its entries
    with the model's, which then says what differs.

    Args:
        cfg: Changed in place.
        checkpoint: As loaded.
    """
    classes = checkpoint_classes(checkpoint)
    test = [dataset for name, dataset in datasets_of(cfg) if name == 'test']
    if not classes or 'ann_file' not in test[0]:
        return
    ann_file = os.path.join(test[0].get('data_root') or '', test[0].ann_file)
    if not os.path.isfile(ann_file):
        return
    listed = read_classes(ann_file)
    if set(classes) <= set(listed):
        set_classes(cfg, classes)
        unknown = [name for name in listed if name not in classes]
        if unknown:
            print_log(
                f'{len(unknown)} of the {len(listed)} classes of {ann_file} '
                'are unknown to the checkpoint and not in the numbers: '
                + ', '.join(unknown[:10])
                + (', ...' if unknown[10:] else ''),
                'current',
                logging.WARNING,
            )


def use_data_root(cfg: Config, data_root: str, **given: str | None) -> None:
    """Point every data set and evaluator of a config to a COCO folder.

    Args:
        cfg: Changed in place.
        data_root: The folder; see
            :func:`mmdet_shufflenetv2.datasets.find_coco_splits`.
        given: Names that the search would otherwise detect.
    """
    splits = find_coco_splits(data_root, **given)
    for name, dataset in datasets_of(cfg):
        split = splits.train if name == 'train' else splits.val
        dataset.data_root = ''
        dataset.ann_file = str(split.ann_file)
        dataset.data_prefix = dict(img=str(split.img_dir))
    for name in 'val_evaluator', 'test_evaluator':
        if cfg.get(name) is not None:
            cfg[name].ann_file = str(splits.val.ann_file)
    set_classes(cfg, splits.classes)


def datasets_of(cfg: Config) -> Iterator[tuple[str, ConfigDict]]:
    """Give ``'train'``, ``'val'`` or ``'test'`` and its innermost data set."""
    for name in SPLITS:
        loader = cfg.get(f'{name}_dataloader')
        pending = [loader['dataset']] if loader else []
        while pending:
            dataset = pending.pop()
            inner = dataset.get('dataset') or dataset.get('datasets')
            if inner is None:
                yield name, dataset
            else:
                pending += inner if isinstance(inner, list) else [inner]


def check_data(
    cfg: Config, splits: tuple[str, ...], on_bad_boxes: str = 'error'
) -> None:
    """Check the annotation files of a run before it starts.

    Args:
        cfg: The config; a file that needed a repair is exchanged for its
            repaired copy in the work dir, in data sets and evaluators.
        splits: Which of ``'train'``, ``'val'``, ``'test'`` the run reads.
        on_bad_boxes: See
            :func:`mmdet_shufflenetv2.datasets.check_coco_file`.

    Raises:
        UsageError: If a file or folder is missing; says what is expected
            and which command prepares it.
        DatasetError: If a file's records are wrong; names them.
    """
    usable = {}
    for name, dataset in datasets_of(cfg):
        if name not in splits or 'ann_file' not in dataset:
            continue
        root = dataset.get('data_root') or ''
        ann_file = os.path.join(root, dataset.ann_file)
        img_dir = os.path.join(root, dataset.data_prefix.get('img', ''))
        if ann_file not in usable:
            require_data(name, ann_file, img_dir, root)
            report = check_coco_file(
                ann_file,
                img_dir,
                on_bad_boxes,
                classes=dataset.get('metainfo', {}).get('classes'),
            )
            usable[ann_file] = str(report.usable_file(cfg.work_dir))
        if usable[ann_file] != ann_file:
            dataset.ann_file = os.path.abspath(usable[ann_file])
    for name in 'val_evaluator', 'test_evaluator':
        evaluator = cfg.get(name)
        if evaluator and evaluator.get('ann_file') in usable:
            evaluator.ann_file = usable[evaluator.ann_file]


def require_data(name: str, ann_file: str, img_dir: str, root: str) -> None:
    """Say in one message which part of a data set is missing."""
    missing = [
        f'  {kind:<12} {path}'
        for kind, path, there in (
            ('annotations', ann_file, os.path.isfile(ann_file)),
            ('images', img_dir, os.path.isdir(img_dir)),
        )
        if not there
    ]
    if not missing:
        return
    raise UsageError(
        f'the {name} data set is not there; expected:\n'
        + '\n'.join(missing)
        + '\nCOCO: put or link it under '
        + f'{root or "data/coco"} and run\n'
        + f'  python tools/prepare_coco.py --data-root {root or "data/coco"}'
        + '\nYour own COCO-format folder: add --data-root DIR\n'
        + 'The embedded data: run  '
        + 'python -m mmdet_shufflenetv2.datasets.shapes data/shapes'
    )


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with a word on how to go on."""
