"""What MMDetection builds from a config: data set, metric, image loader.

The only file of this room that knows mmdet. A config that names ``BoxDataset``
and ``BoxMetric`` works in mmdet's own tools with ``import mmdet_shufflenetv2``
alone; both read one table of boxes, once in a process.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS, METRICS, TRANSFORMS
from mmengine import fileio
from mmengine.logging import print_log

from .folders import guess_format
from .images import decode_image
from .reading import READERS, read_boxes, report
from .table import BoxTable, DatasetError, Source, read_text

#: What configs say of a :class:`.Source` besides where it is.
OPTIONS = 'annotation_format', 'image_list', 'exif', 'part'
#: What this process has logged of data; see :func:`.reading.report`.
said: set = set()


def say_once(text: str) -> None:
    """Warn of what this process has not warned of before."""
    if text not in said:
        said.add(text)
        print_log(text, 'current', 30)


def config_source(config: dict) -> Source:
    """The source that the config of a data set or of a metric names.

    Images of a data set are next to its file where it names no folder.
    """
    root, ann = config.get('data_root') or '', config.get('ann_file') or ''
    ann = ann and os.path.normpath(os.path.join(root, ann))
    img = (config.get('data_prefix') or {}).get('img', '')
    img = config.get('img_dir', img)
    folders = [img] if isinstance(img, str) else img
    folders = [os.path.join(root, each) for each in folders if each or root]
    folders = list(map(os.path.normpath, folders))
    if ann and not folders and 'img_dir' not in config:
        folders = [ann if os.path.isdir(ann) else os.path.dirname(ann) or '.']
    kind = config.get('annotation_format') or guess_format(ann)
    if kind not in READERS:
        raise DatasetError(
            f'expected annotation_format to be one of {", ".join(READERS)}, '
            f'got {kind!r}'
        )
    listed, part = config.get('image_list') or (), config.get('part')
    listed = (listed,) if isinstance(listed, str) else tuple(listed)
    exif, part = config.get('exif') or 'apply', part and tuple(part)
    return Source(kind, ann, tuple(folders), listed, exif, part)


def class_list(metainfo: dict | None) -> tuple[str, ...] | None:
    """The classes of a data set's ``metainfo``, in any form mmengine takes.

    That is a sequence, or a text: a file of one name per line, else the name
    of the only class.
    """
    metainfo = metainfo or {}
    for key in metainfo:
        if str(key).lower() in ('classes', 'class_names') and key != 'classes':
            raise DatasetError(
                f'metainfo has {key!r}, which MMDetection 3 ignores; expected '
                "'classes'"
            )
    classes = metainfo.get('classes')
    if isinstance(classes, str) and os.path.isfile(classes):
        classes = filter(None, map(str.strip, read_text(classes).splitlines()))
    elif isinstance(classes, str):
        # ('ship') is a text; what is meant is ('ship',).
        classes = [classes]
    return None if classes is None else tuple(map(str, classes))


def require_shared_class(table: BoxTable, classes: Sequence[str]) -> None:
    """Refuse a data set that has no class of a model's."""
    if table.classes and not set(classes) & set(table.classes):
        raise DatasetError(
            f'{table.title} has the classes {", ".join(table.classes)}, of '
            f'which none is expected; expected are {", ".join(classes)}'
        )


def coco_api(table: BoxTable) -> COCO:
    """What mmdet reads and judges COCO files by, of a table."""
    api = COCO()
    api.dataset = table.to_coco()
    api.createIndex()
    # What mmdet's class copies before there is an index.
    api.img_ann_map, api.cat_img_map = api.imgToAnns, api.catToImgs
    return api


@DATASETS.register_module()
class BoxDataset(CocoDataset):
    """Boxes of a COCO, YOLO, Pascal VOC or CSV data set.

    Args:
        args, kwargs: Those of ``CocoDataset``. ``ann_file`` is COCO's JSON
            file, YOLO's YAML or names file, the folder of VOC's XML files or
            a CSV file; ``data_prefix.img`` the folder of the images, or
            several. Classes that ``metainfo`` does not name are the file's.
            Images are loaded by :class:`LoadImageStrict`.
        annotation_format: 'COCO', 'YOLO', 'VOC' or 'CSV'; None tells it by
            ``ann_file``.
        image_list: Text file of the images to take, one per line, or
            several.
        exif: 'apply' if boxes are on the turned picture, 'ignore' if on the
            stored pixels.
        part: See :class:`mmdet_shufflenetv2.data.Source`.
        strict: Stop at a record that cannot be used instead of leaving it
            out, and at a broken image instead of taking another one.
    """

    def __init__(self, *args, strict: bool = False, **kwargs) -> None:
        self.source_options = {n: kwargs.pop(n, None) for n in OPTIONS}
        self.strict = strict
        kwargs.setdefault('data_prefix', dict(img=''))
        pipeline = [*kwargs.get('pipeline', ())]
        for index, step in enumerate(pipeline):
            kind = step.get('type') if isinstance(step, dict) else None
            if kind in ('LoadImageFromFile', 'mmdet.LoadImageFromFile'):
                pipeline[index] = dict(step, type=LoadImageStrict)
        super().__init__(*args, **dict(kwargs, pipeline=pipeline))

    @classmethod
    def _load_metainfo(cls, metainfo=None) -> dict:
        loaded = dict(metainfo or {})
        classes = class_list(loaded)
        return loaded if classes is None else dict(loaded, classes=classes)

    def _join_prefix(self) -> None:
        """Paths are joined in :func:`config_source`."""

    def load_data_list(self) -> list[dict]:
        """For each image what mmdet's ``CocoDataset`` gives; classes that
        ``metainfo`` lacks are filled in.
        """
        config = {**vars(self), **self.source_options}
        table = read_boxes(config_source(config))
        for line in report(table, self.strict, said):
            print_log(line, 'current', 30)
        classes = self._metainfo.setdefault('classes', table.classes)
        require_shared_class(table, classes)
        api = coco_api(replace(table.with_classes(classes), names=table.files))
        self.COCOAPI, self.data_prefix = (lambda _: api), dict(img='')
        infos = super().load_data_list()
        del self.COCOAPI
        broken = 'blank' if self.test_mode else 'skip'
        for info in infos:
            info['exif'] = table.source.exif
            info['broken'] = 'error' if self.strict else broken
        return infos

    def filter_data(self) -> list[dict]:
        """Leave out what ``filter_cfg`` says, but not all of it."""
        kept = super().filter_data()
        if len(kept) < len(self.data_list):
            told = (
                f'{len(self.data_list) - len(kept)} of the '
                f'{len(self.data_list)} images of {self.ann_file} are left '
                'out in training: without objects, or too small for '
                f'filter_cfg={self.filter_cfg}'
            )
            if not kept:
                raise DatasetError(told)
            say_once(told)
        return kept


@METRICS.register_module()
class BoxMetric(CocoMetric):
    """COCO's numbers for a :class:`BoxDataset`, from the same table.

    mmdet's metric reads the file once more, takes a match with annotation id
    0 for none, and counts labels in the order of the file's categories.

    Args:
        ann_file: See :class:`BoxDataset`.
        img_dir: The folder of the images, or several; '' leaves out whether
            they are there, for COCO.
        kwargs: Those of ``CocoMetric``, and ``annotation_format``,
            ``image_list``, ``exif`` and ``part`` of :class:`BoxDataset`.
    """

    def __init__(
        self, ann_file: str, img_dir: str | Sequence[str] = '', **kwargs
    ) -> None:
        config = {name: kwargs.pop(name, None) for name in OPTIONS}
        config.update(ann_file=ann_file, img_dir=img_dir)
        super().__init__(**kwargs)
        self.ann_file = ann_file
        #: The boxes to judge by; of the model's classes once it has judged.
        self.table = read_boxes(config_source(config))
        #: A file of results that were written before, to judge instead.
        self.written: str | None = None
        # mmdet asks whether there is an index; it is made by these classes.
        self._coco_api = COCO()

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the numbers of the classes of the model."""
        classes = (self.dataset_meta or {}).get('classes')
        if classes:
            require_shared_class(self.table, classes)
            self.table = self.table.with_classes(classes)
        self._coco_api = coco_api(self.table)
        self.cat_ids = self.table.category_ids.tolist()
        self.img_ids = self.table.image_ids.tolist()
        if len(self.table.boxes):
            return super().compute_metrics(results)
        say_once(f'{self.table.title}: no box to compare with, so no numbers')
        if self.outfile_prefix:
            self.results2json([p for _, p in results], self.outfile_prefix)
        return {}

    def results2json(self, *args, **kwargs) -> dict:
        """Turn labels into category ids; from here on these count in order.

        That is pycocotools' order of the classes, which mmdet's numbers of
        each class go by.
        """
        files = dict(bbox=self.written)
        if self.written is None:
            files = super().results2json(*args, **kwargs)
        self.cat_ids = sorted(self.cat_ids)
        return files


@TRANSFORMS.register_module()
class LoadImageStrict(LoadImageFromFile):
    """``LoadImageFromFile`` that fails on what it cannot read whole.

    Takes the same arguments, but decodes by OpenCV to BGR; ``ignore_empty``
    only excuses a file that is not there.

    Required keys: ``img_path``; of a data set also ``height`` and ``width``,
    which the image is compared with, ``exif``, and ``broken``: with 'skip' a
    broken image is passed over, with 'blank' a black one stands in, either
    with a warning.

    Added keys: ``img`` BGR (H, W, 3), ``img_shape``, ``ori_shape`` (H, W).
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.color_type not in ('color', 'color_ignore_orientation'):
            raise ValueError(
                "expected color_type to be 'color' or "
                f"'color_ignore_orientation', got {self.color_type!r}"
            )

    def transform(self, results: dict) -> dict | None:
        """Load the image; None where it is passed over."""
        broken = results.get('broken', 'error')
        path = name = results['img_path']
        if 'img_id' in results:
            name = f'{path} (image id {results["img_id"]})'
        size = None
        if 'height' in results and 'width' in results:
            size = int(results['height']), int(results['width'])
        exif = results.get('exif', 'apply')
        exif = exif if self.color_type == 'color' else 'ignore'
        try:
            content = fileio.get(path, backend_args=self.backend_args)
            image = decode_image(content, name, size, exif, say_once)
        except (OSError, DatasetError) as error:
            if isinstance(error, OSError) and self.ignore_empty:
                return None
            if isinstance(error, OSError):
                why = error.strerror or error
                error = DatasetError(f'image {name} cannot be read: {why}')
            if broken == 'error':
                raise error from None
            blank = 'left out' if broken == 'skip' else 'taken as black'
            say_once(f'{error}; {blank}')
            if broken == 'skip':
                return None
            image = np.zeros((*size, 3), np.uint8)
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def use_strict_loader() -> None:
    """Let the name ``LoadImageFromFile`` mean this package's loader.

    In the scopes of mmdet and, where it is imported, mmpretrain. A config
    keeps the name that other tools look for.
    """
    registries = [TRANSFORMS]
    if 'mmpretrain.datasets' in sys.modules:
        # Not before: it registers mmcv's by that name, and may do so once.
        from mmpretrain.registry import TRANSFORMS as classification

        registries.append(classification)
    for registry in registries:
        registry.register_module(
            name='LoadImageFromFile', module=LoadImageStrict, force=True
        )
