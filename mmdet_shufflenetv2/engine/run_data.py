"""The data sets of a run: where they lie, their classes, their check."""

import logging
import os
from argparse import Namespace
from collections.abc import Iterator

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from ..data.check_report import shorten
from ..data.checks import CheckReport, check_coco_file
from ..data.custom import find_coco_splits, read_classes
from .checkpoint_meta import checkpoint_classes
from .run_config import SPLITS, UsageError, dicts_of, evaluators_of


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
    with the model's, which then says what differs; as many others are told.

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
    if len(classes) == len(listed) and set(classes) != set(listed):
        print_log(
            f'{ann_file} has as many classes as the checkpoint, by other '
            'names; they are taken to be the same, in this order: '
            + shorten(
                [f'{a} = {b}' for a, b in zip(classes, listed, strict=True)]
            ),
            'current',
            logging.WARNING,
        )
    if set(classes) <= set(listed):
        set_classes(cfg, classes)
        unknown = [name for name in listed if name not in classes]
        if unknown:
            print_log(
                f'{len(unknown)} of the {len(listed)} classes of {ann_file} '
                'are unknown to the checkpoint and not in the numbers: '
                + shorten(unknown),
                'current',
                logging.WARNING,
            )


def data_names(args: Namespace) -> dict:
    """Collect the arguments that :func:`use_data_root` takes."""
    names = 'data_root', 'train_ann', 'val_ann', 'train_img', 'val_img'
    return {name: getattr(args, name) for name in names}


def use_data_root(cfg: Config, data_root: str, **given: str | None) -> None:
    """Point every data set and evaluator of a config to a COCO folder.

    Args:
        cfg: Changed in place.
        data_root: The folder; see
            :func:`mmdet_shufflenetv2.data.find_coco_splits`.
        given: Names that the search would otherwise detect.
    """
    splits = find_coco_splits(data_root, **given)
    for name, dataset in datasets_of(cfg):
        split = splits.train if name == 'train' else splits.val
        dataset.data_root = ''
        dataset.ann_file = str(split.ann_file)
        dataset.data_prefix = dict(img=str(split.img_dir))
    for split in 'val', 'test':
        for evaluator in evaluators_of(cfg, split):
            if 'ann_file' in evaluator:
                evaluator.ann_file = str(splits.val.ann_file)
    set_classes(cfg, splits.classes)


def check_data(
    cfg: Config, splits: tuple[str, ...], on_bad_boxes: str = 'error'
) -> None:
    """Check the annotation files of a run before it starts.

    Args:
        cfg: The config; a file that needed a repair is exchanged for its
            repaired copy in the work dir, in data sets and evaluators.
        splits: Which of ``'train'``, ``'val'``, ``'test'`` the run reads.
        on_bad_boxes: See
            :func:`mmdet_shufflenetv2.data.check_coco_file`.

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
            require_images_left(dataset, report)
            usable[ann_file] = str(report.usable_file(cfg.work_dir))
        if usable[ann_file] != ann_file:
            dataset.ann_file = os.path.abspath(usable[ann_file])
    for split in 'val', 'test':
        for evaluator in evaluators_of(cfg, split):
            if evaluator.get('ann_file') in usable:
                evaluator.ann_file = usable[evaluator.ann_file]


def require_images_left(dataset: ConfigDict, report: CheckReport) -> None:
    """Say how many images the config leaves out in training.

    Raises:
        UsageError: If it leaves out all of them.
    """
    filters = dataset.get('filter_cfg') or {}
    if dataset.get('test_mode'):
        return
    min_size = filters.get('min_size', 0)
    left = report.short_sides >= min_size
    small = f'{(~left).sum()} of the {len(left)} images of {report.ann_file}'
    if not left.all():
        print_log(
            f'{small} are lower or narrower than {min_size} px (min_size of '
            'filter_cfg) and left out in training',
            'current',
            logging.WARNING,
        )
    if filters.get('filter_empty_gt'):
        left &= report.with_objects
    if not left.any():
        raise UsageError(
            f'no image of {report.ann_file} is left to train on: {small} are '
            f'lower or narrower than {min_size} px, the others without '
            'objects; --cfg-options '
            'train_dataloader.dataset.filter_cfg.min_size=1 keeps small ones'
        )


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
        + 'python -m mmdet_shufflenetv2.data.shapes data/shapes'
    )
