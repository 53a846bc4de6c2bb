"""What train and test do differently for detectors and classifiers."""

import os
from argparse import Namespace
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict

from ..data.class_folders import SPLITS, check_class_folders, imagenet_synsets
from ..data.listing import SUFFIXES
from ..data.table import BoxTable
from ..errors import UserError
from . import run_data
from .evaluation import coco_metrics
from .run_config import checkpoint_classes


class Detection:
    """Object detection with mmdet."""

    MODEL = 'detector'
    # Choices of --eval; the first is the default.
    EVAL_CHOICES = 'bbox', 'proposal'
    # Options that do not apply.
    UNSUPPORTED = ('network',)
    # The metric that writes --out.
    DUMP = 'DumpDetResults'

    adopt_classes = staticmethod(run_data.adopt_classes)
    metrics = staticmethod(coco_metrics)

    @staticmethod
    def use_data_root(cfg: Config, args: Namespace) -> None:
        """Point a config to the folder given by the arguments."""
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
        """Check the data of a run; see :func:`.run_data.check_data`."""
        return run_data.check_data(cfg, splits, args.strict, args.exif)


class Classification:
    """Image classification with mmpretrain."""

    MODEL = 'classifier'
    EVAL_CHOICES = ('error',)
    UNSUPPORTED = (
        *('train_ann', 'train_img', 'val_ann', 'val_img', 'val_fraction'),
        *('strict', 'exif', 'json', 'plots', 'fast_eval', 'tta', 'epochs'),
        *('image_size', 'augment', 'multi_scale', 'width', 'star'),
        *('from_checkpoint', 'show_dir'),
    )
    DUMP = 'DumpResults'

    @staticmethod
    def use_data_root(cfg: Config, args: Namespace) -> None:
        """Point every data set of a config to a folder in ImageNet's layout.

        The classes become those of ``train/``, unless the folder has the 1000
        synsets of ImageNet. If most folders are synsets, but not all 1000 are
        there, the folder is rejected as an incomplete copy of ImageNet.
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
                        'copy or, to train on these classes, add\n  '
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
        """Set the model's classes to its checkpoint's, except on ImageNet."""
        classes = checkpoint_classes(checkpoint)
        datasets = [each for _, each in run_data.datasets_of(cfg)]
        if classes and not any(map(_is_imagenet, datasets)):
            run_data.set_classes(cfg, classes)

    @staticmethod
    def check_data(
        cfg: Config, splits: tuple[str, ...], args: Namespace
    ) -> dict:
        """Check the image folders of a run before it starts."""
        used = [d for name, d in run_data.datasets_of(cfg) if name in splits]
        for dataset in used:
            dataset.extensions = SUFFIXES  # mmpretrain has fewer of its own
        folders = [
            os.path.join(d.get('data_root') or '', d.get('data_prefix', ''))
            for d in used
        ]
        for folder in folders:
            if not os.path.isdir(folder):
                raise UserError(
                    f'the data set was not found; expected:\n'
                    f'  {folder}/<class>/<image>\n'
                    'ImageNet: copy or link it there\n'
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
                f'{folders[0]} has {len(classes)} classes, but this config '
                f'has model.head.num_classes={wanted}; set it with '
                f'--data-root {os.path.dirname(folders[0])}'
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

        ``published``, the network's top-1 error in %, is logged next to the
        measured one on ImageNet, unless the config changes the network.
        """
        metric = ConfigDict(dict(run_data.metrics_of(cfg))['test'])
        # Other arguments of the backbone make it another network.
        harmless = {'init_cfg', 'norm_eval', 'frozen_stages', 'style'}
        same = {*(cfg.model.get('backbone') or {})} <= harmless
        if published and same and _is_imagenet(cfg.test_dataloader.dataset):
            metric.published = {1: published}
        return [metric]


def _is_imagenet(dataset: ConfigDict) -> bool:
    return dataset.type.rpartition('.')[2] == 'ImageNet'


def task_of(cfg: Config, args: Namespace) -> type:
    """Choose `Detection` or `Classification`; set the default ``args.eval``.

    Raises:
        UserError: An argument does not apply to the task.
    """
    is_classifier = cfg.get('default_scope') == 'mmpretrain'
    task = Classification if is_classifier else Detection
    wrong = [
        f'--{name.removesuffix("_checkpoint").replace("_", "-")}'
        for name in task.UNSUPPORTED
        if getattr(args, name, None) not in (None, False)
    ]
    if is_classifier and getattr(args, 'checkpoint', '').endswith('.json'):
        wrong.append(args.checkpoint)
    hint = ''
    if hasattr(args, 'eval'):
        args.eval = args.eval or [task.EVAL_CHOICES[0]]
        words = sorted({*args.eval} - {*task.EVAL_CHOICES})
        wrong += [f'--eval {word}' for word in words]
        hint = f'; --eval takes {" ".join(task.EVAL_CHOICES)}'
    if wrong:
        raise UserError(
            f'{args.config} is a {task.MODEL}: expected no '
            f'{", ".join(wrong)}{hint}'
        )
    return task
