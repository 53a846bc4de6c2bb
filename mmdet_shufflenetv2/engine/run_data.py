"""Locate and check the data sets of a run, and agree on its classes.

Whatever type a config names, a run reads boxes by ``BoxDataset`` and evaluates
them by ``BoxMetric``, which share one table. In a run of several processes,
the first one reads the table and broadcasts it.
"""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.dist import (
    broadcast_object_list,
    is_distributed,
    is_main_process,
)
from mmengine.logging import print_log

from ..data.dataset import (
    class_list,
    config_source,
    dataset_config,
    metric_config,
    require_shared_class,
    said,
    say_once,
)
from ..data.folders import Splits, classes_beyond, find_data
from ..data.listing import Listing
from ..data.reading import read_boxes, remember, report
from ..data.rules import require_trainable
from ..data.table import BoxTable, Source, read_text, shorten
from ..errors import UserError
from .run_config import SPLITS, checkpoint_classes, dicts_of

Result = TypeVar('Result')

#: File in the folder of a run that says which data it trains on.
NOTE = 'data.json'
#: Metrics that are replaced by a BoxMetric on the run's own table; the config
#: of an earlier test may have a ProposalMetric.
_METRICS = 'BoxMetric', 'CocoMetric', 'ProposalMetric', 'VOCMetric'


def once_per_run(work: Callable[[], Result]) -> Result:
    """Call ``work`` in the first process only.

    All processes return its result, or raise its error.
    """
    if not is_distributed():
        return work()
    outcome: list = [None, None]
    if is_main_process():
        try:
            outcome[0] = work()
        except Exception as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def _read(source: Source) -> BoxTable:
    """Read a source's table; only the first process reads its files."""
    whole = source._replace(image_list=(), part=None)
    remember(once_per_run(lambda: read_boxes(whole)))
    return read_boxes(source)


def datasets_of(cfg: Config) -> Iterator[tuple[str, ConfigDict]]:
    """Yield each split's name with each of its innermost data sets."""
    for name in SPLITS:
        loader = cfg.get(f'{name}_dataloader')
        pending = [loader['dataset']] if loader else []
        while pending:
            dataset = pending.pop(0)
            inner = dataset.get('dataset') or dataset.get('datasets')
            if inner is None:
                yield name, dataset
            else:
                pending += inner if isinstance(inner, list) else [inner]


def metrics_of(cfg: Config) -> Iterator[tuple[str, ConfigDict]]:
    """Yield ``'val'`` or ``'test'`` with each metric of its evaluator."""
    for name in 'val', 'test':
        metrics = cfg.get(f'{name}_evaluator')
        if isinstance(metrics, dict) and 'metrics' in metrics:
            metrics = metrics['metrics']
        metrics = metrics if isinstance(metrics, list) else [metrics]
        yield from ((name, metric) for metric in metrics if metric)


def is_box_metric(node: ConfigDict) -> bool:
    """Whether a metric's config is replaced by a BoxMetric."""
    return str(node.type).rpartition('.')[2] in _METRICS


def set_classes(cfg: Config, classes: tuple[str, ...]) -> None:
    """Set the classes of the model and of every data set, in label order."""
    for node in dicts_of(cfg.model):
        if 'num_classes' in node:
            node['num_classes'] = len(classes)
    for _, dataset in datasets_of(cfg):
        dataset.metainfo = dict(classes=tuple(classes))


def _coco_class(dataset: ConfigDict) -> type[CocoDataset] | None:
    """The dataset class if mmdet's own COCO code reads it, else None."""
    kind = dataset.get('type')
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if isinstance(kind, type) and issubclass(kind, CocoDataset):
        names = 'load_data_list', 'parse_data_info', 'COCOAPI'
        if all(getattr(kind, n) is getattr(CocoDataset, n) for n in names):
            return kind
    return None


def source_of(dataset: ConfigDict) -> Source | None:
    """The source of a data set; None if its format is not supported here."""
    if str(dataset.get('type')).rpartition('.')[2] == 'BoxDataset':
        return config_source(dataset)
    if _coco_class(dataset):
        return config_source(dict(dataset, annotation_format='COCO'))
    return None


def _loads_masks(dataset: ConfigDict) -> bool:
    """Whether a data set needs masks, which a ``BoxDataset`` lacks."""
    steps = dicts_of(dataset.get('pipeline') or [])
    return any(s.get('with_mask') or s.get('with_seg') for s in steps)


def adopt_classes(cfg: Config, checkpoint: dict) -> None:
    """Set model and test data to the classes of a checkpoint, by name."""
    classes = checkpoint_classes(checkpoint)
    test = [dataset for name, dataset in datasets_of(cfg) if name == 'test']
    source = source_of(test[0]) if test else None
    if not classes or source is None:
        return
    if source.ann and not os.path.exists(source.ann):
        return
    table = _read(source)
    require_shared_class(table, classes)
    set_classes(cfg, classes)
    unknown = classes_beyond(table, classes)
    if unknown:
        say_once(
            f'{table.title}: not evaluated, because the checkpoint does not '
            f'have these classes: {shorten(unknown)}'
        )


def use_data_root(
    cfg: Config,
    data_root: str,
    wanted: tuple[str, ...] = ('train', 'val'),
    run_dir: str | None = None,
    **options,
) -> None:
    """Point all data sets and evaluators of a config to a folder.

    Args:
        cfg: The config, changed in place.
        data_root, wanted, options: See
            :func:`mmdet_shufflenetv2.data.folders.find_data`.
        run_dir: Folder of the tested checkpoint's run. If that run held out
            images for validation, the test uses the same images.
    """
    if any(_loads_masks(dataset) for _, dataset in datasets_of(cfg)):
        raise UserError(
            f'--data-root is for boxes, but {cfg.filename} needs masks; name '
            'your COCO files and image folders in the config instead'
        )
    listed = Path(run_dir or '', 'val.txt')

    def find() -> Splits:
        if run_dir is not None and listed.is_file():
            whole = find_data(data_root, **options)
            if whole.train.part and _trained_on(run_dir, whole.train):
                chosen = dict(part=None, image_list=(str(listed),))
                val = whole.train._replace(**chosen)
                note = f'testing on the images of {listed}'
                return Splits(None, val, whole.classes, (note,))
        return find_data(data_root, wanted, **options)

    splits = once_per_run(find)
    for note in splits.notes:
        print_log(note, 'current')
    for name in SPLITS:
        loader = cfg.get(f'{name}_dataloader')
        for wrapper in dicts_of(loader.dataset if loader else []):
            if wrapper.get('datasets'):
                # Otherwise the same data would be repeated.
                wrapper['datasets'] = wrapper['datasets'][:1]
    for name, dataset in datasets_of(cfg):
        _point_to((name == 'train' and splits.train) or splits.val, dataset)
    for _, metric in metrics_of(cfg):
        if is_box_metric(metric):
            _point_to(splits.val, metric)
    if splits.classes:
        set_classes(cfg, splits.classes)


def _point_to(source: Source, node: ConfigDict) -> None:
    """Let a data set or a metric of a config read a source."""
    if not is_box_metric(node):
        node.pop('data_prefix', None)  # update would keep its other keys
        node.update(dataset_config(source))
        return
    if node.type.endswith('VOCMetric'):
        node.clear()
    node.update(metric_config(source))


def note_data(cfg: Config, data: list[dict]) -> None:
    """Write what a run trains on into its work dir.

    ``data`` is that of :func:`.run_dir.data_of`. The images of each part of a
    divided source are listed in ``train.txt`` and ``val.txt``. A resumed run
    keeps its lists: new data must not move images from one part to the other.
    """

    def write(path: Path, source: Source) -> None:
        if cfg.resume and path.is_file() and _trained_on(cfg.work_dir, source):
            print_log(
                f'the run continues with the images of {path}', 'current'
            )
        elif path in foreign:
            raise UserError(
                f'{path} exists, but not from a run; choose another --work-dir'
            )
        else:
            found = Listing(source.images).paths
            names = {file: name for name, file in found.items()}
            lines = [names[file] for file in read_boxes(source).files]
            path.write_text('\n'.join([*lines, '']), 'utf-8')

    note = Path(cfg.work_dir, NOTE)
    foreign = [] if note.exists() else [*Path(cfg.work_dir).glob('*.txt')]
    for nodes in datasets_of(cfg), metrics_of(cfg):
        for _, node in nodes:
            if node.get('part'):
                path = Path(cfg.work_dir, f'{node["part"][0]}.txt')
                if 'data_prefix' in node:
                    once_per_run(partial(write, path, source_of(node)))
                node.update(image_list=str(path), part=None)
    if is_main_process():
        note.write_text(json.dumps(data, indent=1) + '\n', encoding='utf-8')


def _trained_on(run_dir: str, source: Source) -> bool:
    """Whether the note in a run's folder names a source."""
    note = Path(run_dir, NOTE)
    # It is empty while the run starts.
    known = json.loads(read_text(note) or '[]') if note.is_file() else []
    return any(_same_file(each['path'], source.ann) for each in known)


def _same_file(one: str, other: str) -> bool:
    exist = os.path.exists(one) and os.path.exists(other)
    return exist and os.path.samefile(one, other)


def check_data(
    cfg: Config,
    splits: tuple[str, ...],
    strict: bool = False,
    exif: str | None = None,
) -> dict[str, list[BoxTable]]:
    """Check the data of a run before it starts.

    In the config, COCO data sets and metrics become ``BoxDataset`` and
    ``BoxMetric``, and the classes are filled in.

    Args:
        cfg: The config, changed in place.
        splits: Which of ``'train'``, ``'val'``, ``'test'`` the run reads.
        strict: Raise an error for wrong records instead of skipping them.
        exif: 'apply' or 'ignore', see :class:`Source`; default: the config's.

    Returns:
        For each split, a table of boxes for each of its data sets, with the
        classes of the run.
    """
    tables: dict[str, list[BoxTable]] = {}
    lists: dict[tuple[str, ...], str] = {}
    for name, dataset in datasets_of(cfg):
        if name not in splits:
            continue
        source = source_of(dataset)
        if source is None:
            print_log(
                f'the {name} data set is not checked: expected COCO, YOLO, '
                f'VOC or CSV, got a {dataset.type}',
                'current',
            )
            continue
        require_data(name, source)
        source = source._replace(exif=exif or source.exif)
        table, stop = _read(source), strict or dataset.get('strict', False)
        # For masks, mmdet reads the file itself, including wrong records.
        masks = _loads_masks(dataset)
        for line in report(table, stop or masks, said):
            print_log(line, 'current', 30)
        classes = _agree_on_classes(cfg, name, dataset, table)
        lists.setdefault(classes, f'{name} ({table.title})')
        if not masks:
            _point_to(source, dataset)
            dataset.strict = stop
        tables.setdefault(name, []).append(table.with_classes(classes))
    if len(lists) > 1:
        lines = [
            f'\n  {where}: {shorten(names)}' for names, where in lists.items()
        ]
        raise UserError(
            f'the data sets of this run differ in classes:{"".join(lines)}'
        )
    if 'train' in tables:
        # Some data sets may hold only background images.
        most = max(tables['train'], key=lambda each: each.learned().sum())
        require_trainable(most)
    for name, metric in metrics_of(cfg):
        if name in tables and is_box_metric(metric):
            _check_metric(metric, tables[name])
    return tables


def _agree_on_classes(
    cfg: Config, name: str, dataset: ConfigDict, table: BoxTable
) -> tuple[str, ...]:
    """Check a table's classes against the config's and the model's.

    The resulting classes are returned, and stored in the data set's config.
    """
    classes = class_list(dataset.get('metainfo'))
    if classes is None and (kind := _coco_class(dataset)):
        classes = tuple(kind.METAINFO['classes'])
    classes = classes or table.classes
    require_shared_class(table, classes)
    unknown = shorten(classes_beyond(table, classes))
    if unknown and classes == CocoDataset.METAINFO['classes']:
        known = tuple(each for each in table.classes if each in classes)
        raise UserError(
            f"{table.title} has classes that are not among COCO's: {unknown}. "
            "To train on the file's classes, add --data-root DIR; to ignore "
            f'these, list the others: --cfg-options {name}_dataloader.'
            f'dataset.metainfo.classes="{known}"'
        )
    if unknown:
        say_once(
            f'{table.title}: ignored classes, because the config does not '
            f'name them: {unknown}'
        )
    heads = [
        head.get('num_classes')
        for node in dicts_of(cfg.model)
        for key in ('bbox_head', 'mask_head')
        for head in dicts_of(node.get(key) or [])
    ]
    wrong = {n for n in heads if isinstance(n, int)} - {len(classes)}
    if wrong:
        raise UserError(
            f'{table.title} has {len(classes)} classes ({shorten(classes)}), '
            f'but the model has num_classes={wrong.pop()}; set it with '
            '--data-root DIR'
        )
    dataset.metainfo = dict(dataset.get('metainfo') or {}, classes=classes)
    return classes


def _check_metric(metric: ConfigDict, tables: list[BoxTable]) -> None:
    """Let a metric evaluate against the table of its data set."""
    words, given = metric.get('metric', 'bbox'), metric.get('ann_file')
    if 'segm' in ([words] if isinstance(words, str) else words):
        for table in tables:
            if table.source.format == 'COCO' and (table.ids == 0).any():
                raise UserError(
                    f'{table.title} has an annotation of id 0, whose matches '
                    'pycocotools ignores; number annotations from 1 to '
                    'evaluate masks'
                )
        return
    (source, *others) = {table.source for table in tables}
    ann = source.ann
    if others or (given and ann and not _same_file(given, ann)):
        # Different files may use the same image and annotation ids.
        raise UserError(
            f'the evaluator reads {given}, but its images come from '
            f'{" and ".join(t.title for t in tables)}'
        )
    _point_to(source, metric)


def require_data(name: str, source: Source) -> None:
    """Report all missing files and folders of a data set in one message."""
    paths = [source.ann, *source.images]
    missing = [path for path in paths if path and not os.path.exists(path)]
    if missing:
        raise UserError(
            f'the {name} data set was not found; expected:\n  '
            + '\n  '.join(missing)
            + '\nCOCO: copy or link it to data/coco and run\n'
            '  python tools/prepare_coco.py --data-root data/coco'
            '\nYour own folder of images and boxes: add --data-root DIR\n'
            'Synthetic data: run  '
            'python -m mmdet_shufflenetv2 synthetic data/shapes'
        )
