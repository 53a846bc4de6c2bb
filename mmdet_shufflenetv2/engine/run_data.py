"""The data sets of a run: where they lie, their classes, their check.

Whatever a config says, a run's boxes come from ``BoxDataset`` and are judged
by ``BoxMetric``, which share one table. In a run of several processes the
first one reads it, the others wait and get it.
"""

import logging
import os
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.dist import (
    broadcast_object_list,
    is_distributed,
    is_main_process,
)
from mmengine.logging import print_log

from ..data import folders as data_folders
from ..data.folders import Splits
from ..data.reading import (
    look_at_images,
    read_boxes,
    remember,
    report,
    require_trainable,
)
from ..data.registered import (
    class_list,
    image_folders,
    make_source,
    require_shared_class,
    said,
    say_once,
)
from ..data.table import BoxTable, Source, read_text, shorten
from ..errors import UserError
from .checkpoint_meta import checkpoint_classes
from .run_config import SPLITS, dicts_of

Result = TypeVar('Result')

#: What begins the first line of a list of images, before its source.
_LIST_OF = '# images of '
#: Metrics that need what only CocoDataset or VOCDataset give.
_METRICS = ('BoxMetric', 'CocoMetric', 'VOCMetric')


def once_per_run(work: Callable[[], Result]) -> Result:
    """Do it in the first process; the others wait and get the result.

    Raises:
        UserError: The one that the first process raised, in all of them.
    """
    if not is_distributed():
        return work()
    outcome: list = [None, None]
    if is_main_process():
        try:
            outcome[0] = work()
        except UserError as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


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


def metrics_of(cfg: Config) -> Iterator[tuple[str, ConfigDict]]:
    """Give ``'val'`` or ``'test'`` and each metric of its evaluator."""
    for name in 'val', 'test':
        evaluator = cfg.get(f'{name}_evaluator')
        if isinstance(evaluator, dict) and 'metrics' in evaluator:
            evaluator = evaluator['metrics']
        several = evaluator if isinstance(evaluator, list) else [evaluator]
        yield from ((name, metric) for metric in several if metric)


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


def source_of(dataset: ConfigDict) -> Source | None:
    """Where a data set of a config is read from.

    Returns:
        None for one whose format is not known here.
    """
    if not _is_box(dataset) and not _is_coco(dataset):
        return None
    root = dataset.get('data_root') or ''
    img = (dataset.get('data_prefix') or {}).get('img', '')
    several = [img] if isinstance(img, str) else img
    ann_file = os.path.join(root, dataset.get('ann_file') or '')
    return make_source(
        ann_file,
        image_folders(
            ann_file, [os.path.join(root, path) for path in several]
        ),
        dataset.get('annotation_format')
        or ('COCO' if _is_coco(dataset) else None),
        dataset.get('image_list'),
        dataset.get('exif', 'apply'),
        dataset.get('part'),
    )


def _is_box(dataset: ConfigDict) -> bool:
    return str(dataset.get('type')).rpartition('.')[2] == 'BoxDataset'


def _is_coco(dataset: ConfigDict) -> bool:
    """Whether mmdet reads a data set as COCO, whatever its type is called."""
    kind = dataset.get('type')
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    return (
        isinstance(kind, type)
        and issubclass(kind, CocoDataset)
        and kind.load_data_list is CocoDataset.load_data_list
        and kind.parse_data_info is CocoDataset.parse_data_info
        and kind.COCOAPI is COCO
    )


def _wants_masks(dataset: ConfigDict) -> bool:
    return any(
        node.get('with_mask') or node.get('with_seg')
        for node in dicts_of(dataset.get('pipeline') or [])
    )


def adopt_classes(cfg: Config, checkpoint: dict) -> None:
    """Give model and test data the classes of a checkpoint.

    Args:
        cfg: Changed in place.
        checkpoint: As loaded; classes are matched by name.

    Raises:
        DatasetError: The test data has none of them.
    """
    classes = checkpoint_classes(checkpoint)
    test = [dataset for name, dataset in datasets_of(cfg) if name == 'test']
    source = source_of(test[0]) if test else None
    if not classes or source is None:
        return
    if source.ann and not os.path.exists(source.ann):
        return
    table = once_per_run(lambda: read_boxes(source))
    remember(table)
    require_shared_class(table, classes)
    set_classes(cfg, classes)
    unknown = _unknown(table, classes)
    if unknown:
        print_log(
            f'{table.title}: classes that the checkpoint does not know are '
            f'not in the numbers: {shorten(unknown)}',
            'current',
            logging.WARNING,
        )


def _unknown(table: BoxTable, classes: tuple[str, ...]) -> list[str]:
    """Classes of a table that are not wanted, with their boxes."""
    return [
        f'{name} ({count} boxes)'
        for name, count in zip(table.classes, table.counts(), strict=True)
        if count and name not in classes
    ]


def data_names(args: Namespace) -> dict:
    """Collect the arguments that :func:`find_data` takes."""
    names = 'data_root', 'train_ann', 'val_ann', 'train_img', 'val_img'
    given = {name: getattr(args, name) for name in names}
    checkpoint = getattr(args, 'checkpoint', None)
    if checkpoint is not None:
        folder = os.path.dirname(checkpoint) or '.'
        given |= {'wanted': ('test',), 'run_dir': folder}
    return {
        **given,
        'val_fraction': getattr(args, 'val_fraction', None),
        'exif': getattr(args, 'exif', None) or 'apply',
    }


def use_data_root(cfg: Config, data_root: str, **given) -> None:
    """Find the data below a folder and point a config to it."""
    use_data(cfg, find_data(data_root, **given))


def find_data(
    data_root: str,
    wanted: tuple[str, ...] = ('train', 'val'),
    run_dir: str | None = None,
    **options,
) -> Splits:
    """Find what to train and to test on in a folder; say what was found.

    Args:
        data_root: The folder.
        wanted: ``('train', 'val')`` or ``('test',)``.
        run_dir: Where the run is whose checkpoint is tested: images that it
            set apart for validation are the ones to test on.
        options: See :func:`mmdet_shufflenetv2.data.folders.find_data`.
    """
    listed = Path(run_dir or '', 'val.txt')

    def find() -> Splits:
        if 'test' in wanted and run_dir and listed.is_file():
            whole = data_folders.find_data(data_root, **options)
            if whole.train.part and _is_list_of(listed, whole.train):
                source = whole.train._replace(
                    part=None, image_list=str(listed)
                )
                note = f'testing on the images that {run_dir} set apart'
                return Splits(None, source, whole.classes, (note,))
        return data_folders.find_data(data_root, wanted, **options)

    splits = once_per_run(find)
    for note in splits.notes:
        print_log(note, 'current')
    return splits


def use_data(cfg: Config, splits: Splits, strict: bool = False) -> None:
    """Point every data set and evaluator of a config to what was found.

    Args:
        cfg: Changed in place.
        splits: See :func:`find_data`.
        strict: See :class:`mmdet_shufflenetv2.data.BoxDataset`.
    """
    train, val = splits.train, splits.val
    for name in SPLITS:
        loader = cfg.get(f'{name}_dataloader')
        wrapper = loader and loader.dataset
        while wrapper:
            if len(wrapper.get('datasets') or ()) > 1:
                # All of them would be the same data.
                wrapper.datasets = wrapper.datasets[:1]
            wrapper = wrapper.get('dataset') or wrapper.get('datasets')
            wrapper = wrapper[0] if isinstance(wrapper, list) else wrapper
    for name, dataset in datasets_of(cfg):
        source = train if name == 'train' and train else val or train
        _point_to(dataset, source, strict)
    for _, metric in metrics_of(cfg):
        if metric.type in _METRICS:
            _judge_by(metric, val or train)
    if splits.classes:
        set_classes(cfg, splits.classes)


def _list_parts(cfg: Config) -> None:
    """Let data sets and metrics name the images of a part by a list."""
    for _, node in (*datasets_of(cfg), *metrics_of(cfg)):
        if node.get('part'):
            images = node.get('img_dir') or node.data_prefix.img
            source = make_source(
                node.ann_file,
                images,
                node.annotation_format,
                exif=node.exif,
                part=node.part,
            )
            node.image_list = _list_part(cfg.work_dir, source).image_list
            node.part = None


def _list_part(work_dir: str, source: Source) -> Source:
    """Write down which images of a source a run uses.

    Returns:
        The source of that list. One that the run has already is kept: data
        may have come since, and must not change sides.
    """
    path = Path(work_dir, f'{source.part[0]}.txt')
    listed = source._replace(part=None, image_list=str(path))

    def write() -> None:
        if _is_list_of(path, source):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f'{_LIST_OF}{os.path.abspath(source.ann)}']
        for file in read_boxes(source).files:
            folder = next(
                folder
                for folder in source.images
                if Path(folder) in Path(file).parents
            )
            lines.append(os.path.relpath(file, folder).replace(os.sep, '/'))
        path.write_text('\n'.join(lines) + '\n', 'utf-8')

    once_per_run(write)
    return listed


def _is_list_of(path: Path, source: Source) -> bool:
    if not path.is_file():
        return False
    first = read_text(path).partition('\n')[0]
    of = first.partition(_LIST_OF)[2]
    return os.path.exists(of) and os.path.samefile(of, source.ann)


def _point_to(dataset: ConfigDict, source: Source, strict: bool) -> None:
    images = list(source.images)
    dataset.update(
        type='BoxDataset',
        data_root='',
        ann_file=source.ann,
        data_prefix=dict(img=images[0] if len(images) == 1 else images),
        annotation_format=source.format,
        image_list=source.image_list,
        exif=source.exif,
        part=source.part,
        strict=strict,
    )


def _judge_by(metric: ConfigDict, source: Source) -> None:
    if metric.type == 'VOCMetric':
        metric.clear()
    images = list(source.images)
    metric.update(
        type='BoxMetric',
        ann_file=source.ann,
        img_dir=images[0] if len(images) == 1 else images,
        annotation_format=source.format,
        image_list=source.image_list,
        exif=source.exif,
        part=source.part,
    )


def check_data(
    cfg: Config,
    splits: tuple[str, ...],
    strict: bool = False,
    exif: str | None = None,
) -> dict[str, BoxTable]:
    """Check what a run reads before it starts.

    Args:
        cfg: The config, changed in place: data sets and metrics of COCO
            become ``BoxDataset`` and ``BoxMetric``, classes are written out.
            ``work_dir`` gets ``train.txt`` and ``val.txt`` where a part of
            the training images is set apart.
        splits: Which of ``'train'``, ``'val'``, ``'test'`` the run reads.
        strict: Stop at records that are wrong, instead of leaving them out.
        exif: 'apply' or 'ignore', see :class:`Source`; None leaves it.

    Returns:
        The boxes of each split; of several data sets the last one's.

    Raises:
        UserError: A file or folder is missing, class lists differ, or there
            is nothing to train on.
        DatasetError: Records are wrong; names them.
    """
    tables: dict[str, BoxTable] = {}
    sources: dict[str, list[Source]] = {}
    lists: dict[tuple[str, ...], str] = {}
    for name in SPLITS:
        loader = cfg.get(f'{name}_dataloader')
        if loader and not loader.get('num_workers'):
            # PyTorch refuses workers that persist where there are none.
            loader['persistent_workers'] = False
    _list_parts(cfg)
    for name, dataset in datasets_of(cfg):
        if name not in splits:
            continue
        source = source_of(dataset)
        if source is None:
            print_log(
                f'the {name} data set, a {dataset.type}, is not checked; '
                'known are COCO, YOLO, VOC and CSV',
                'current',
            )
            continue
        require_data(name, source)
        if exif:
            source = source._replace(exif=exif)
        strict_here = strict or dataset.get('strict', False)
        table = _checked(source, strict_here or _wants_masks(dataset))
        classes = _agree_on_classes(cfg, name, dataset, table)
        lists.setdefault(classes, f'{name} ({table.title})')
        if not _wants_masks(dataset):
            _point_to(dataset, source, strict_here)
        if name == 'train':
            chosen = table.with_classes(classes)
            require_trainable(chosen)
            require_images_left(dataset, chosen)
        tables[name] = table
        sources.setdefault(name, []).append(source)
    if len(lists) > 1:
        told = '\n'.join(
            f'  {where}: {shorten(names)}' for names, where in lists.items()
        )
        raise UserError(
            f'the data sets of this run differ in classes:\n{told}'
        )
    for name, metric in metrics_of(cfg):
        if name in sources and metric.type in _METRICS:
            _check_metric(metric, sources[name], tables[name])
    return tables


def _checked(source: Source, strict: bool) -> BoxTable:
    table = once_per_run(lambda: look_at_images(read_boxes(source)))
    remember(table)
    for line in report(table, strict, said):
        if is_main_process():
            print_log(line, 'current', logging.WARNING)
    return table


def _agree_on_classes(
    cfg: Config, name: str, dataset: ConfigDict, table: BoxTable
) -> tuple[str, ...]:
    """Compare a file's classes with those of the config and its model.

    Returns:
        Those of the data set, which are also written into its config.

    Raises:
        UserError: They do not fit.
    """
    classes = class_list(dataset.get('metainfo'))
    implied = None
    if classes is None and _is_coco(dataset):
        kind = dataset.type
        kind = DATASETS.get(kind) if isinstance(kind, str) else kind
        classes = implied = tuple(kind.METAINFO['classes'])
    classes = classes or table.classes
    require_shared_class(table, classes)
    unknown = _unknown(table, classes)
    if unknown and implied:
        known = [each for each in table.classes if each in classes]
        raise UserError(
            f'{table.title} has classes that are not among the '
            f'{len(classes)} of {dataset.type}: {shorten(unknown)}. To train '
            "on the file's classes add --data-root DIR; to leave these out, "
            f'name the others: --cfg-options {name}_dataloader.dataset.'
            f'metainfo.classes="{tuple(known)}"'
        )
    if unknown:
        say_once(
            f'{table.title}: classes that the config does not name are left '
            f'out: {shorten(unknown)}'
        )
    empty = [
        each
        for each, count in zip(
            classes, table.with_classes(classes).counts(), strict=True
        )
        if not count
    ]
    if empty and name == 'train':
        say_once(
            f'{table.title}: {len(empty)} of {len(classes)} classes have no '
            f'box: {shorten(empty)}'
        )
    for number in _head_classes(cfg.model):
        if number != len(classes):
            raise UserError(
                f'{table.title} has {len(classes)} classes '
                f'({shorten(classes)}), but the model has num_classes='
                f'{number}; --data-root DIR sets it'
            )
    dataset.metainfo = dict(dataset.get('metainfo') or {}, classes=classes)
    return classes


def _head_classes(node, inside: bool = False) -> Iterator[int]:
    """``num_classes`` of a detector's heads for boxes and masks."""
    if isinstance(node, list | tuple):
        for each in node:
            yield from _head_classes(each, inside)
    elif isinstance(node, dict):
        if inside and isinstance(node.get('num_classes'), int):
            yield node['num_classes']
        for key, value in node.items():
            if key in ('bbox_head', 'mask_head'):
                yield from _head_classes(value, True)
            elif key in ('roi_head', 'detector', 'model', 'teacher'):
                yield from _head_classes(value)


def _check_metric(
    metric: ConfigDict, sources: list[Source], table: BoxTable
) -> None:
    """Let a metric judge by the table of its data set.

    Raises:
        UserError: The metric's file lists other images.
    """
    given = metric.get('ann_file')
    same = [
        source
        for source in sources
        if not given
        or not source.ann
        or (os.path.exists(given) and os.path.samefile(source.ann, given))
    ]
    words = metric.get('metric', 'bbox')
    if 'segm' in ([words] if isinstance(words, str) else words):
        if sources[0].format == 'COCO' and (table.ids == 0).any():
            raise UserError(
                f'{table.title} has an annotation of id 0, whose matches '
                'pycocotools does not count; number them from 1 to measure '
                'masks'
            )
        return
    if same:
        _judge_by(metric, same[0])
        return
    if not os.path.exists(given):
        raise UserError(f"the evaluator's ann_file {given} does not exist")
    source = make_source(given, annotation_format=sources[0].format)
    judge = once_per_run(lambda: read_boxes(source))
    remember(judge)
    strange = set(table.image_ids.tolist()) - set(judge.image_ids.tolist())
    if len(sources) == 1 and strange:
        raise UserError(
            f'the evaluator reads {given}, which lacks {len(strange)} images '
            f'of {table.title}: id {shorten(sorted(strange))}'
        )
    _judge_by(metric, source)


def require_images_left(dataset: ConfigDict, table: BoxTable) -> None:
    """Say how many images the config leaves out in training.

    Raises:
        UserError: If it leaves out all of them.
    """
    filters = dataset.get('filter_cfg') or {}
    if dataset.get('test_mode'):
        return
    min_size = filters.get('min_size', 0)
    left = table.sizes.min(axis=1) >= min_size
    small = f'{(~left).sum()} of the {len(left)} images of {table.title}'
    if not left.all():
        print_log(
            f'{small} are lower or narrower than {min_size} px (min_size of '
            'filter_cfg) and left out in training',
            'current',
            logging.WARNING,
        )
    if filters.get('filter_empty_gt'):
        with_objects = left & False
        with_objects[table.image] = True
        left &= with_objects
    if not left.any():
        raise UserError(
            f'no image of {table.title} is left to train on: {small} are '
            f'lower or narrower than {min_size} px, the others without '
            'objects; --cfg-options '
            'train_dataloader.dataset.filter_cfg.min_size=1 keeps small ones'
        )


def require_data(name: str, source: Source) -> None:
    """Say in one message which part of a data set is missing.

    Raises:
        UserError: Something is; says what is expected.
    """
    missing = []
    if source.ann and not os.path.exists(source.ann):
        missing.append(f'  annotations  {source.ann}')
    missing += [
        f'  images       {folder}'
        for folder in source.images
        if not os.path.isdir(folder)
    ]
    if missing:
        raise UserError(
            f'the {name} data set is not there; expected:\n'
            + '\n'.join(missing)
            + '\nCOCO: put or link it under data/coco and run\n'
            '  python tools/prepare_coco.py --data-root data/coco'
            '\nYour own folder of images and boxes: add --data-root DIR\n'
            'The synthetic data: run  '
            'python -m mmdet_shufflenetv2 synthetic data/shapes'
        )
