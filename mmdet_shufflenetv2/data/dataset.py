"""The data set, metric and image loader that MMDetection builds from a config.

This is the only file of ``data`` that imports mmdet. A config with
``BoxDataset`` and ``BoxMetric`` works in mmdet's own tools with nothing but
``import mmdet_shufflenetv2``; both share one table, read once per process.
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

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

#: Config keys for the fields of a :class:`.Source` that are not paths.
OPTIONS = 'annotation_format', 'image_list', 'exif', 'part'
#: Data messages this process has already logged; see :func:`.reading.report`.
said: set = set()


def say_once(text: str) -> None:
    """Log a warning unless this process has already logged it."""
    if text not in said:
        said.add(text)
        print_log(text, 'current', logging.WARNING)


def config_source(config: dict) -> Source:
    """Convert the config of a data set or of a metric to a source.

    A data set without an image folder has its images next to ``ann_file``.
    """
    root, ann = config.get('data_root') or '', config.get('ann_file') or ''
    ann = ann and os.path.normpath(os.path.join(root, ann))
    prefix = (config.get('data_prefix') or {}).get('img', '')
    images = config.get('img_dir', prefix)
    images = [images] if isinstance(images, str) else images
    images = [os.path.join(root, each) for each in images if each or root]
    if ann and not images and 'img_dir' not in config:
        images = [ann if os.path.isdir(ann) else os.path.dirname(ann)]
    kind = config.get('annotation_format') or guess_format(ann)
    if kind not in READERS:
        raise DatasetError(
            f'expected annotation_format to be one of {", ".join(READERS)}, '
            f'got {kind!r}'
        )
    lists, part = config.get('image_list') or (), config.get('part')
    return Source(
        kind,
        ann,
        images=tuple(map(os.path.normpath, images)),
        image_list=(lists,) if isinstance(lists, str) else tuple(lists),
        exif=config.get('exif') or 'apply',
        part=part and tuple(part),
    )


def metric_config(source: Source) -> dict:
    """Convert a source to the config of a metric; inverse of the above."""
    images = [*source.images]
    return dict(
        type='BoxMetric',
        ann_file=source.ann,
        img_dir=images[0] if len(images) == 1 else images,
        annotation_format=source.format,
        image_list=source.image_list,
        exif=source.exif,
        part=source.part,
    )


def dataset_config(source: Source) -> dict:
    """Convert a source to the config of a data set."""
    config = metric_config(source)
    prefix = dict(img=config.pop('img_dir'))
    return dict(config, type='BoxDataset', data_root='', data_prefix=prefix)


def class_list(metainfo: dict | None) -> tuple[str, ...] | None:
    """Return the classes in ``metainfo``, in any form mmengine accepts.

    They are a sequence, a file with one name per line, or a single name.
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
        classes = [classes]  # ('ship') is a string; the user meant ('ship',).
    return None if classes is None else tuple(map(str, classes))


def require_shared_class(table: BoxTable, classes: Sequence[str]) -> None:
    """Raise an error if a data set has none of the model's classes."""
    if table.classes and not set(classes) & set(table.classes):
        raise DatasetError(
            f'{table.title}: expected at least one of the classes '
            f'{", ".join(classes)}, got {", ".join(table.classes)}'
        )


def coco_api(table: BoxTable) -> COCO:
    """Convert a table to the API object through which mmdet uses COCO."""
    api = COCO()
    api.dataset = table.to_coco()
    api.createIndex()
    # mmdet's constructor copied these before the index existed.
    api.img_ann_map, api.cat_img_map = api.imgToAnns, api.catToImgs
    return api


@DATASETS.register_module()
class BoxDataset(CocoDataset):
    """Boxes of a COCO, YOLO, Pascal VOC or CSV data set.

    Images are loaded by :class:`LoadImageStrict`.

    Args:
        args, kwargs: Arguments of ``CocoDataset``. ``ann_file`` is a COCO JSON
            file, a YOLO YAML or names file, the folder of VOC XML files or a
            CSV file; ``data_prefix.img`` is one image folder or several. The
            classes default to those of the file.
        annotation_format: 'COCO', 'YOLO', 'VOC' or 'CSV'; None detects the
            format from ``ann_file``.
        image_list: One or several text files that list the images to use,
            one per line.
        exif: 'apply' if boxes refer to the image turned as its EXIF data
            says, 'ignore' if they refer to the stored pixels.
        part: See :class:`mmdet_shufflenetv2.data.Source`.
        strict: Raise an error for an unusable record or broken image instead
            of leaving it out or, in a test, replacing it with a black image.
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
        """Do nothing: :func:`config_source` joins the paths."""

    def load_data_list(self) -> list[dict]:
        """Return the records of ``CocoDataset``; set missing classes."""
        config = {**vars(self), **self.source_options}
        table = read_boxes(config_source(config))
        for line in report(table, self.strict, said):
            print_log(line, 'current', logging.WARNING)
        if not len(table):
            raise DatasetError(f'{table.title}: no usable image{table.errors}')
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
        """Apply ``filter_cfg``; raise an error if it leaves no image."""
        kept, count = super().filter_data(), len(self.data_list)
        if len(kept) < count:
            message = (
                f'{count - len(kept)} of the {count} images of '
                f'{self.ann_file} are not used in training: they have no '
                f'objects or are too small for filter_cfg={self.filter_cfg}'
            )
            if not kept:
                raise DatasetError(message)
            say_once(message)
        return kept


@METRICS.register_module()
class BoxMetric(CocoMetric):
    """COCO metrics for a :class:`BoxDataset`, computed from the same table.

    mmdet's own metric reads the file a second time, ignores matches with
    annotation id 0, and numbers labels in the order of the file's categories.

    Args:
        ann_file: See :class:`BoxDataset`.
        img_dir: One image folder or several; '' skips the check that the
            images of a COCO file exist.
        kwargs: Arguments of ``CocoMetric``, and ``annotation_format``,
            ``image_list``, ``exif`` and ``part`` of :class:`BoxDataset`.
    """

    def __init__(
        self, ann_file: str, img_dir: str | Sequence[str] = '', **kwargs
    ) -> None:
        config = {name: kwargs.pop(name, None) for name in OPTIONS}
        config.update(ann_file=ann_file, img_dir=img_dir)
        super().__init__(**kwargs)
        self.ann_file = ann_file
        #: Ground truth; :meth:`compute_metrics` reduces it to the model's
        #: classes.
        self.table = read_boxes(config_source(config))
        self._results_file: str | None = None
        # Placeholder: with None, mmdet expects ground truth in the samples.
        self._coco_api = COCO()

    def evaluate_file(self, path: str) -> dict[str, float]:
        """Compute the metrics of a file of COCO-format results."""
        images = {*self.table.image_ids.tolist()}
        categories = {*self.table.category_ids.tolist()}
        try:
            wrong = [
                record
                for record in json.loads(Path(path).read_text())
                if record['image_id'] not in images
                or record['category_id'] not in categories
                or not record['score'] >= 0
                or len(record['bbox']) != 4
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            wrong = [error]
        if wrong:
            raise DatasetError(
                f'{path}: expected a list of results with image_id and '
                f'category_id of {self.ann_file}, bbox and score, got '
                f'{wrong[0]!r:.200}'
            )
        # One pair of placeholders: mmdet expects results.
        self._results_file, self.results = path, [(None, None)]
        return self.evaluate(1)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of the model's classes."""
        classes = (self.dataset_meta or {}).get('classes')
        if classes:
            require_shared_class(self.table, classes)
            self.table = self.table.with_classes(classes)
        self._coco_api = coco_api(self.table)
        self.cat_ids = self.table.category_ids.tolist()
        self.img_ids = self.table.image_ids.tolist()
        if len(self.table.boxes):
            return super().compute_metrics(results)
        say_once(f'{self.table.title} has no boxes, so there are no metrics')
        if self.outfile_prefix:
            self.results2json([p for _, p in results], self.outfile_prefix)
        return {}

    def results2json(self, *args, **kwargs) -> dict:
        """Convert labels to category ids, then sort ``cat_ids``.

        mmdet indexes its results per class in pycocotools' sorted order.
        """
        files = dict(bbox=self._results_file)
        if self._results_file is None:
            files = super().results2json(*args, **kwargs)
        self.cat_ids = sorted(self.cat_ids)
        return files


@TRANSFORMS.register_module()
class LoadImageStrict(LoadImageFromFile):
    """``LoadImageFromFile`` that raises an error for a damaged image.

    Takes the same arguments, but always decodes with OpenCV to BGR, and
    ``ignore_empty`` only applies to a missing file.

    Required key: ``img_path``. Optional keys: ``height`` and ``width``, which
    the image must match; ``exif``; ``broken``, which turns the error into a
    warning: 'skip' skips the image, 'blank' replaces it with a black one.

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
        """Load the image; return None to skip it."""
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
            if isinstance(error, OSError):
                if self.ignore_empty:
                    return None
                why = error.strerror or error
                error = DatasetError(f'image {name} cannot be read: {why}')
            if broken == 'error':
                raise error from None
            if broken == 'skip':
                say_once(f'{error}; left out')
                return None
            say_once(f'{error}; replaced with a black image')
            image = np.zeros((*size, 3), np.uint8)
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def use_strict_loader() -> None:
    """Register this package's loader as ``LoadImageFromFile``.

    This affects the registries of mmdet and, if it is imported, mmpretrain.
    Configs keep the stock name, which other tools look for.
    """
    registries = [TRANSFORMS]
    if 'mmpretrain.datasets' in sys.modules:
        # Any earlier, mmpretrain's own registration of this name would fail.
        from mmpretrain.registry import TRANSFORMS as classification

        registries.append(classification)
    for registry in registries:
        registry.register_module(
            name='LoadImageFromFile', module=LoadImageStrict, force=True
        )
