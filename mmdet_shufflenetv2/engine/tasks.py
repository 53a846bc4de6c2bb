"""What the tools do with a detector's config, and with a classifier's."""

import os
from argparse import Namespace
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict

from ..data.class_folders import SPLITS, check_class_folders, imagenet_synsets
from ..data.table import BoxTable
from ..errors import UserError
from . import run_data
from .evaluation import coco_metrics
from .run_config import checkpoint_classes


class Detection:
    """Boxes, by mmdet."""

    MODEL = 'detector'
    # Words of --eval, the first being the default.
    EVAL_WORDS = 'bbox', 'proposal'
    NOT_FOR_IT = ('network',)
    # The metric of --out.
    DUMP = 'DumpDetResults'

    adopt_classes = staticmethod(run_data.adopt_classes)
    metrics = staticmethod(coco_metrics)

    @staticmethod
    def use_data_root(cfg: Config, args: Namespace) -> None:
        """Point a config to the folder that the arguments name."""
        names = 'train_ann', 'val_ann', 'train_img', 'val_img', 'val_fraction'
        options = {name: getattr(args, name) for name in names}
        if hasattr(args, 'checkpoint'):
            options['wanted'] = ('test',)
            options['run_dir'] = os.path.dirname(args.checkpoint)
        run_data.use_data_root(
            cfg, args.data_root, exif=args.exif or 'apply', **options
        )

    @staticmethod
    def check_data(
        cfg: Config, splits: tuple[str, ...], args: Namespace
    ) -> dict[str, list[BoxTable]]:
        """Check what a run reads; see :func:`.run_data.check_data`."""
        return run_data.check_data(cfg, splits, args.strict, args.exif)


class Classification:
    """One class for each image, by mmpretrain."""

    MODEL = 'classifier'
    EVAL_WORDS = ('error',)
    # Options that mean something with boxes only.
    NOT_FOR_IT = (
        *('train_ann', 'train_img', 'val_ann', 'val_img', 'val_fraction'),
        *('strict', 'exif', 'json', 'plots', 'fast_eval', 'tta', 'epochs'),
        *('image_size', 'augment', 'multi_scale', 'width', 'star'),
        'from_checkpoint',
    )
    DUMP = 'DumpResults'

    @staticmethod
    def use_data_root(cfg: Config, args: Namespace) -> None:
        """Point every data set of a config to a folder of ImageNet's layout.

        Classes become those of ``train/`` unless the config is ImageNet's
        and the folder has its 1000 synsets; most of them are taken for a copy
        that has stopped.
        """
        root = args.data_root
        folders = [os.path.join(root, split) for split in SPLITS]
        classes = run_data.once_per_run(
            lambda: check_class_folders(folders, decode=False)
        )
        synsets = imagenet_synsets()
        known = len({*synsets} & {*classes})
        for name, dataset in run_data.datasets_of(cfg):
            if _is_imagenet(dataset) and classes != synsets:
                if name == 'train' and 2 * known > len(classes):
                    raise UserError(
                        f"{root} has {known} of ImageNet's 1000 synsets and "
                        f'{len(classes) - known} other folders. Complete the '
                        'copy; or, to train on these classes, add\n  '
                        '--cfg-options train_dataloader.dataset.type='
                        'CustomDataset'
                    )
                dataset.type = 'CustomDataset'
            dataset.data_root = root
            dataset.data_prefix = 'train' if name == 'train' else 'val'
        if classes != synsets:
            run_data.set_classes(cfg, classes)

    @staticmethod
    def adopt_classes(cfg: Config, checkpoint: dict) -> None:
        """Give the model its checkpoint's classes; ImageNet's stay."""
        classes = checkpoint_classes(checkpoint)
        datasets = [each for _, each in run_data.datasets_of(cfg)]
        if classes and not any(map(_is_imagenet, datasets)):
            run_data.set_classes(cfg, classes)

    @staticmethod
    def check_data(
        cfg: Config, splits: tuple[str, ...], args: Namespace
    ) -> dict:
        """Check the folders that a run reads before it starts."""
        used = [d for name, d in run_data.datasets_of(cfg) if name in splits]
        folders = [
            os.path.join(d.get('data_root') or '', d.get('data_prefix', ''))
            for d in used
        ]
        for folder in folders:
            if not os.path.isdir(folder):
                raise UserError(
                    f'the data set is not there; expected:\n'
                    f'  {folder}/<class>/<image>\n'
                    'ImageNet: put or link it there\n'
                    'Your own class folders: add --data-root DIR\n'
                    'Synthetic data: run  python -m mmdet_shufflenetv2 '
                    'synthetic data/shape_crops --crops'
                )
        expected = used[0].get('metainfo', {}).get('classes')
        if _is_imagenet(used[0]):
            expected = imagenet_synsets()
        classes = run_data.once_per_run(
            lambda: check_class_folders(folders, expected)
        )
        wanted = cfg.model.head.num_classes
        if len(classes) != wanted:
            raise UserError(
                f'{folders[0]} has {len(classes)} classes, but the model of '
                f'this config has model.head.num_classes={wanted}; '
                f'--data-root {os.path.dirname(folders[0])} sets it'
            )
        return {}

    @staticmethod
    def metrics(
        cfg: Config,
        words: Sequence[str],
        outfile_prefix: str | None = None,
        published: float | None = None,
    ) -> list[ConfigDict]:
        """The metric of ``--eval error``.

        ``published`` is the network's top-1 error in %, told on ImageNet
        unless the config makes it another network.
        """
        metric = ConfigDict(dict(run_data.metrics_of(cfg))['test'])
        # These leave the network as it is.
        options = {'init_cfg', 'norm_eval', 'frozen_stages', 'style'}
        same = {*(cfg.model.get('backbone') or {})} <= options
        if published and same and _is_imagenet(cfg.test_dataloader.dataset):
            metric.published = {1: published}
        return [metric]


def _is_imagenet(dataset: ConfigDict) -> bool:
    return dataset.type.rpartition('.')[2] == 'ImageNet'


def task_of(cfg: Config, args: Namespace) -> type:
    """The task of a config, a class as above; ``args.eval`` gets its default.

    Raises:
        UserError: An argument is for the other task.
    """
    is_classifier = cfg.get('default_scope') == 'mmpretrain'
    task = Classification if is_classifier else Detection
    wrong = [
        f'--{name.removesuffix("_checkpoint").replace("_", "-")}'
        for name in task.NOT_FOR_IT
        if getattr(args, name, None) not in (None, False)
    ]
    if is_classifier and getattr(args, 'checkpoint', '').endswith('.json'):
        wrong.append(args.checkpoint)
    if hasattr(args, 'eval'):
        args.eval = args.eval or [task.EVAL_WORDS[0]]
        words = sorted({*args.eval} - {*task.EVAL_WORDS})
        wrong += [f'--eval {word}' for word in words]
    if wrong:
        raise UserError(
            f'{args.config} is a {task.MODEL}, which {", ".join(wrong)} is '
            f'not for; --eval takes {" ".join(task.EVAL_WORDS)}'
        )
    return task
