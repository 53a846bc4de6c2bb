"""What the tools do with a classifier's config, as `detectors` with others."""

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict

from ..backbones.zoo import network, network_of
from ..data.class_folders import (
    SPLITS,
    check_class_folders,
    imagenet_synsets,
)
from ..data.table import shorten
from ..errors import UserError
from .checkpoint_meta import checkpoint_classes
from .run_config import evaluators_of
from .run_data import datasets_of, once_per_run, set_classes

MODEL = 'classifier'
EVAL_WORDS = ('error',)
# Options that mean something with boxes only.
NOT_FOR_IT = (
    'train_ann',
    'train_img',
    'val_ann',
    'val_img',
    'on_bad_boxes',
    'strict',
    'exif',
    'val_fraction',
    'json',
    'plots',
    'fast_eval',
    'tta',
    'image_size',
    'width',
    'star',
    'epochs',
    'from_checkpoint',
)
DUMP = 'DumpResults'


def drawing(folder: str, score_thr: float) -> dict:
    """The hook that draws what was found, for ``--show-dir``."""
    return dict(
        type='mmdet.PicturesHook',
        out_dir=folder,
        method='visualize_cls',
        resize=224,
    )


def use_data_root(cfg: Config, args: Namespace) -> None:
    """Point every data set of a config to a folder of ImageNet's layout.

    Args:
        cfg: Changed in place; classes become those of ``train/`` unless the
            config is ImageNet's and the folder has its 1000 synsets.
        args: ``data_root`` holds ``train/<class>/`` and ``val/<class>/``.

    Raises:
        DatasetError: If a folder or class is missing or empty.
        UserError: If the config is ImageNet's and most of the folders are
            synsets of it, but others or not all 1000.
    """
    data_root = args.data_root
    folders = [os.path.join(data_root, split) for split in SPLITS]
    classes = once_per_run(lambda: check_class_folders(folders, decode=False))
    if all(is_imagenet(dataset) for _, dataset in datasets_of(cfg)):
        _refuse_part_of_imagenet(classes, data_root)
    for name, dataset in datasets_of(cfg):
        dataset.data_root = data_root
        dataset.data_prefix = 'train' if name == 'train' else 'val'
        if classes != imagenet_synsets():
            dataset.type = 'CustomDataset'
    if classes != imagenet_synsets():
        set_classes(cfg, classes)


def _refuse_part_of_imagenet(classes: Sequence[str], data_root: str) -> None:
    """Raise a UserError where a copy of ImageNet is not as it should be.

    Data of which most classes are ImageNet's is taken for such a copy: a
    folder left over from elsewhere does not make it a set of one's own.
    """
    synsets = set(imagenet_synsets())
    known = synsets.intersection(classes)
    missing = sorted(synsets.difference(classes))
    unknown = sorted(set(classes) - synsets)
    if not (missing or unknown) or 2 * len(known) <= len(classes):
        return
    differences = [
        f'{len(names)} {kind}: {shorten(names)}'
        for kind, names in (('missing', missing), ('unknown', unknown))
        if names
    ]
    raise UserError(
        f"{data_root} has {len(known)} of ImageNet's {len(synsets)} synsets; "
        f'{"; ".join(differences)}. Complete the copy; or, to train on these '
        'classes, add\n'
        '  --cfg-options train_dataloader.dataset.type=CustomDataset'
    )


def adopt_classes(cfg: Config, checkpoint: dict) -> None:
    """Give the model as many classes as its checkpoint has.

    Args:
        cfg: Changed in place; ImageNet's are always the same and stay.
        checkpoint: As loaded.
    """
    classes = checkpoint_classes(checkpoint)
    if classes and not any(is_imagenet(each) for _, each in datasets_of(cfg)):
        set_classes(cfg, classes)


def check_data(cfg: Config, splits: tuple[str, ...], args: Namespace) -> None:
    """Check the folders that a run reads before it starts.

    Args:
        cfg: The config.
        splits: Which of ``'train'``, ``'val'``, ``'test'`` the run reads.
        args: Not looked at.

    Raises:
        UserError: If a folder is missing or the model has another number
            of classes; says what to do.
        DatasetError: If a class or an image is not as it should be.
    """
    used = [each for each in datasets_of(cfg) if each[0] in splits]
    folders = [
        os.path.join(
            dataset.get('data_root') or '', dataset.get('data_prefix') or ''
        )
        for _, dataset in used
    ]
    for (name, _), folder in zip(used, folders, strict=True):
        if not os.path.isdir(folder):
            raise UserError(
                f'the {name} data set does not exist; expected:\n'
                f'  {folder}/<class>/<image>\n'
                'ImageNet: put or link it there\n'
                'Your own class folders: add --data-root DIR\n'
                'Synthetic data: run  python -m mmdet_shufflenetv2 synthetic '
                'data/shape_crops --crops'
            )
    _, first = used[0]
    expected = first.get('metainfo', {}).get('classes')
    if is_imagenet(first):
        expected = imagenet_synsets()
    classes = once_per_run(lambda: check_class_folders(folders, expected))
    wanted = cfg.model.head.num_classes
    if len(classes) != wanted:
        raise UserError(
            f'{folders[0]} has {len(classes)} classes, but the model of this '
            f'config has model.head.num_classes={wanted}; --data-root '
            f'{Path(folders[0]).parent} sets it'
        )


def metrics(
    cfg: Config,
    words: Sequence[str],
    outfile_prefix: str | None = None,
    published: float | None = None,
) -> list[ConfigDict]:
    """Make the metric config for ``--eval error``.

    Args:
        cfg: The config.
        words: ``['error']``.
        outfile_prefix: Not used.
        published: Top-1 error in % that is published for the network. It is
            told on ImageNet, unless the backbone's arguments make it another
            network than its name says.
    """
    metric = ConfigDict(evaluators_of(cfg, 'test')[0])
    on_imagenet = all(
        is_imagenet(d) for n, d in datasets_of(cfg) if n == 'test'
    )
    if published is not None and on_imagenet and _is_as_published(cfg):
        metric.published = {1: published}
    return [metric]


def _is_as_published(cfg: Config) -> bool:
    """Whether a classifier's backbone is that of its network's name."""
    published = network(cfg.model.network).config
    backbone = {**published, **(cfg.model.get('backbone') or {})}
    if 'style' not in published:
        # Whose reading of the paper it is, and so whose weights fit.
        backbone.pop('style', None)
    return network_of(backbone) == cfg.model.network


def is_imagenet(dataset: ConfigDict) -> bool:
    """Whether a data set's config is that of ImageNet's 1000 classes."""
    return dataset.type.rpartition('.')[2] == 'ImageNet'
