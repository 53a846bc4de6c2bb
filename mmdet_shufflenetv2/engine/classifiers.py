"""What the tools do with a classifier's config, as `detectors` with others."""

import os
from argparse import Namespace
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict

from ..backbones.zoo import network, network_of
from ..data.class_folders import (
    SPLITS,
    check_class_folders,
    imagenet_synsets,
)
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
    'augment',
    'multi_scale',
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
        DatasetError: A folder or class is missing or empty.
        UserError: The config is ImageNet's and most of the folders are
            synsets of it, but not all 1000, as where a copy has stopped.
    """
    root = args.data_root
    folders = [os.path.join(root, split) for split in SPLITS]
    classes = once_per_run(lambda: check_class_folders(folders, decode=False))
    synsets = imagenet_synsets()
    known = set(synsets).intersection(classes)
    for name, dataset in datasets_of(cfg):
        if _is_imagenet(dataset) and classes != synsets:
            if name == 'train' and 2 * len(known) > len(classes):
                raise UserError(
                    f"{root} has {len(known)} of ImageNet's 1000 synsets and "
                    f'{len(classes) - len(known)} other folders. Complete the '
                    'copy; or, to train on these classes, add\n  --cfg-options'
                    ' train_dataloader.dataset.type=CustomDataset'
                )
            dataset.type = 'CustomDataset'
        dataset.data_root = root
        dataset.data_prefix = 'train' if name == 'train' else 'val'
    if classes != synsets:
        set_classes(cfg, classes)


def adopt_classes(cfg: Config, checkpoint: dict) -> None:
    """Give the model as many classes as its checkpoint has.

    Args:
        cfg: Changed in place; ImageNet's are always the same and stay.
        checkpoint: As loaded.
    """
    classes = checkpoint_classes(checkpoint)
    if classes and not any(_is_imagenet(each) for _, each in datasets_of(cfg)):
        set_classes(cfg, classes)


def check_data(cfg: Config, splits: tuple[str, ...], args: Namespace) -> dict:
    """Check the folders that a run reads before it starts.

    Args:
        cfg: The config.
        splits: Which of ``'train'``, ``'val'``, ``'test'`` the run reads.
        args: Not looked at.

    Raises:
        UserError: A folder is missing or the model has another number of
            classes; says what to do.
        DatasetError: A class or an image is not as it should be.
    """
    used = [each for name, each in datasets_of(cfg) if name in splits]
    folders = [
        os.path.join(each.get('data_root') or '', each.get('data_prefix', ''))
        for each in used
    ]
    for folder in folders:
        if not os.path.isdir(folder):
            raise UserError(
                f'the data set is not there; expected:\n'
                f'  {folder}/<class>/<image>\n'
                'ImageNet: put or link it there\n'
                'Your own class folders: add --data-root DIR\n'
                'Synthetic data: run  python -m mmdet_shufflenetv2 synthetic '
                'data/shape_crops --crops'
            )
    expected = used[0].get('metainfo', {}).get('classes')
    if _is_imagenet(used[0]):
        expected = imagenet_synsets()
    classes = once_per_run(lambda: check_class_folders(folders, expected))
    wanted = cfg.model.head.num_classes
    if len(classes) != wanted:
        raise UserError(
            f'{folders[0]} has {len(classes)} classes, but the model of this '
            f'config has model.head.num_classes={wanted}; --data-root '
            f'{os.path.dirname(folders[0])} sets it'
        )
    return {}


def metrics(
    cfg: Config,
    words: Sequence[str],
    outfile_prefix: str | None = None,
    published: float | None = None,
) -> list[ConfigDict]:
    """Make the metric config for ``--eval error``.

    Args:
        cfg: The config.
        words, outfile_prefix: Not used.
        published: Top-1 error in % that is published for the network. It is
            told on ImageNet, unless the backbone's arguments make it another
            network than its name says.
    """
    metric = ConfigDict(evaluators_of(cfg, 'test')[0])
    row = network(cfg.model.network).config
    backbone = {**row, **(cfg.model.get('backbone') or {})}
    if 'style' not in row:
        # Whose reading of the paper it is, and so whose weights fit.
        backbone.pop('style', None)
    test = [each for name, each in datasets_of(cfg) if name == 'test']
    if (
        published is not None
        and all(map(_is_imagenet, test))
        and network_of(backbone) == cfg.model.network
    ):
        metric.published = {1: published}
    return [metric]


def _is_imagenet(dataset: ConfigDict) -> bool:
    return dataset.type.rpartition('.')[2] == 'ImageNet'
