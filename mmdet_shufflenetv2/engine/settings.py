"""Apply the options of ``train`` to a config."""

import logging
from argparse import Namespace
from importlib.util import find_spec

import mmengine.device.utils
import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.logging import print_log

from ..backbones.pretrained import (
    PUBLIC_WEIGHTS,
    RESNETS,
    fetch_weights,
    public_weights,
)
from ..data.table import SMALL_BOX_PX, BoxTable
from ..errors import UserError
from .run_config import (
    SPLITS,
    dicts_of,
    packaged_config,
    pretrained_of,
    resizing,
    set_image_size,
    without_pretrained,
)
from .schedule import stretch_schedule
from .weights import build_on_meta

# Necks that take every level that the backbone returns.
NECKS = 'FPN', 'LightHeadNeck', 'RFCNNeck'
# Factors on the sides; at 800 the authors' 600, 700, 800, 900, 1000.
MULTI_SCALE = 0.75, 0.875, 1.0, 1.125, 1.25


def apply_settings(cfg: Config, args: Namespace) -> None:
    """Apply all options of ``train`` that change the config."""
    if (args.amp or args.sync_bn) and get_device() != 'cuda':
        raise UserError(
            f'--amp and --sync-bn need a GPU, but this run uses {get_device()}'
        )
    if args.tensorboard and not find_spec('tensorboard'):
        raise UserError(
            '--tensorboard needs the package tensorboard: '
            'pip install tensorboard'
        )
    starts_elsewhere = (
        args.backbone_weights
        or args.from_checkpoint
        or cfg.get('resume')
        or cfg.get('load_from')
    )
    if args.from_scratch or starts_elsewhere:
        without_pretrained(cfg)
    if args.from_scratch:
        cfg.model.backbone.pop('frozen_stages', None)
        print_log(
            'The whole backbone is trained, from random weights',
            'current',
        )
    if args.from_scratch or args.sync_bn:
        unfreeze_norms(cfg.model.backbone)
    set_network(cfg, args)
    if args.epochs:
        set_epochs(cfg, args.epochs)
    if args.image_size:
        set_image_size(cfg, args.image_size)
    if args.augment:
        set_augmentation(cfg, args.augment)
    if args.vertical_flip:
        set_vertical_flip(cfg)
    if args.multi_scale:
        set_multi_scale(cfg)
    add_hooks(cfg, args)
    if args.tensorboard:
        cfg.visualizer.vis_backends.append(dict(type='TensorboardVisBackend'))
    keys = {
        'train_dataloader.batch_size': args.batch_size,
        'optim_wrapper.optimizer.lr': args.lr,
        'optim_wrapper.type': 'AmpOptimWrapper' if args.amp else None,
        'randomness.seed': args.seed,
        'sync_bn': 'torch' if args.sync_bn else None,
    }
    for split in SPLITS:
        if args.workers is not None and cfg.get(f'{split}_dataloader'):
            keys[f'{split}_dataloader.num_workers'] = args.workers
            keys[f'{split}_dataloader.persistent_workers'] = args.workers > 0
    cfg.merge_from_dict({k: v for k, v in keys.items() if v is not None})
    if not starts_elsewhere and not args.from_scratch:
        fetch_starting_weights(cfg)
    scale_learning_rate(cfg, args)


def choose_device(name: str) -> None:
    """Train on ``'cpu'``, ``'cuda'`` or ``'cuda:N'``.

    Must be called before anything uses a GPU.
    """
    kind, _, number = name.partition(':')
    number, count = number or '0', torch.cuda.device_count()
    if name == 'cpu':
        mmengine.device.utils.DEVICE = 'cpu'
    elif kind == 'cuda' and number.isdecimal() and int(number) < count:
        torch.cuda.set_device(int(number))
    else:
        raise UserError(
            f'--device: expected cpu, cuda or cuda:N of the {count} GPUs that '
            f'PyTorch sees, got {name}'
        )


def set_network(cfg: Config, args: Namespace) -> None:
    """Apply ``--star`` and ``--width``; adapt the channels of neck and RPN."""
    if not args.star and not args.width:
        return
    backbone, neck = cfg.model.backbone, cfg.model.get('neck') or {}
    if args.star:
        backbone.receptive_field = 'enlarged'
    if args.width:
        backbone.widen_factor = args.width
    try:
        channels = tuple(build_on_meta(backbone).out_channels)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f'--star, --width: {error}') from error
    if neck.get('type') in NECKS:
        neck.in_channels = channels
        if neck.type != 'FPN':
            cfg.model.rpn_head.in_channels = channels[neck.get('rpn_level', 0)]
    elif args.width:
        raise UserError(
            f'--width: expected a neck of type {", ".join(NECKS)}, got '
            f'{neck.get("type")} in {cfg.filename}; set widen_factor and the '
            'channels with --cfg-options'
        )


def set_epochs(cfg: Config, epochs: int) -> None:
    """Set the number of epochs; scale schedule and validation interval."""
    planned = cfg.train_cfg.get('max_epochs')
    if planned is None:
        raise UserError(
            f'--epochs: {cfg.filename} counts iterations; set them with '
            '--cfg-options train_cfg.max_iters=N'
        )
    cfg.train_cfg.max_epochs = epochs
    stretch_schedule(cfg, planned)
    interval = cfg.train_cfg.get('val_interval', 1)
    cfg.train_cfg.val_interval = max(1, round(interval * epochs / planned))


def adapt_image_size(cfg: Config, tables: list[BoxTable]) -> None:
    """Choose the image size from the training data; warn about tiny boxes.

    If the config sets ``image_size_from_data``, the size is the config's, or
    up to twice that if a tenth of the boxes would otherwise be smaller than
    twice `SMALL_BOX_PX` pixels. It never exceeds the larger of the images' own
    size and two thirds of the config's.
    """
    if not any(len(table.boxes) for table in tables):
        return
    if cfg.get('image_size_from_data'):
        default = max(resizing(cfg, 'train')[0].scale)
        sides = np.concatenate([table.image_sizes() for table in tables])
        short, long = np.median(np.sort(sides, axis=1), axis=0)
        boxes = np.concatenate([table.box_sizes() for table in tables])
        small = np.quantile(boxes, 0.1)
        wanted = long * 2 * SMALL_BOX_PX / max(small, 1e-6)
        most = min(2 * default, max(long, default * 2 / 3))
        side = 32 * round(min(max(wanted, default), most) / 32)
        size = side, round(side * short / long)
        set_image_size(cfg, size)
        print_log(
            f'Image size {size[0]}x{size[1]}: the median image is '
            f'{long:.0f}x{short:.0f}, and 90% of the boxes are larger than '
            f'{small:.0f} pixels (square root of the area); set another size '
            'with --image-size WxH',
            'current',
        )
    try:
        (step,) = resizing(cfg, 'train')
    except ValueError:  # multi-scale training
        return
    scale = tuple(step.scale)
    boxes = np.concatenate([table.box_sizes(scale) for table in tables])
    share = np.mean(boxes < SMALL_BOX_PX)
    if share > 0.1:
        print_log(
            f'{share:.0%} of the boxes are smaller than {SMALL_BOX_PX} pixels '
            f'after resizing to {scale[0]}x{scale[1]} and will hardly be '
            'detected; use a larger --image-size WxH or cut images into tiles',
            'current',
            level=logging.WARNING,
        )


def set_augmentation(cfg: Config, level: str) -> None:
    """Use a level of augmentation in ``configs/_base_/augmentation.py``."""
    pipeline = cfg.train_dataloader.dataset.get('pipeline', ())
    steps = resizing(cfg, 'train', '--augment')
    if len(steps) != 1 or steps[0] not in pipeline:
        raise UserError(f'--augment: {cfg.filename} has no plain pipeline')
    path = f'{__package__.partition(".")[0]}::_base_/augmentation.py'
    augmentation = Config.fromfile(packaged_config(path)).augmentation[level]
    for step in augmentation:
        if 'scale' in step:
            step.scale = steps[0].scale
    loading = [step for step in pipeline if 'Load' in step.type]
    pipeline[:] = [*loading, *augmentation, pipeline[-1]]


def set_vertical_flip(cfg: Config) -> None:
    """Also flip training images vertically; add flips if there are none."""
    # Some hooks switch to a pipeline of their own.
    nodes = dicts_of([cfg.train_dataloader, cfg.get('custom_hooks')])
    flips = [n for n in nodes if str(n.get('type')).endswith('RandomFlip')]
    if not flips:
        pipeline = cfg.train_dataloader.dataset.get('pipeline')
        if not pipeline:
            text = f'--vertical-flip: {cfg.filename} has no plain pipeline'
            raise UserError(text)
        flips = [ConfigDict(type='RandomFlip')]
        pipeline[-1:-1] = flips  # before PackDetInputs
    for flip in flips:  # The remaining third is not flipped.
        flip.prob = [1 / 3, 1 / 3]
        flip.direction = ['horizontal', 'vertical']


def set_multi_scale(cfg: Config) -> None:
    """Resize each training image to one of several sizes."""
    cfg.image_size_from_data = False
    for step in resizing(cfg, 'train', '--multi-scale'):
        size = np.array(step.scale)
        scales = [tuple((size * f).round().tolist()) for f in MULTI_SCALE]
        step.clear()
        step.update(type='RandomChoiceResize', scales=scales, keep_ratio=True)


def add_hooks(cfg: Config, args: Namespace) -> None:
    """Add the hooks of ``--ema`` and ``--patience``.

    They replace hooks of the same type; ``--no-ema`` removes the config's.
    """
    hooks, replaced = [], {'EMAHook'} if args.ema is False else set()
    if args.ema:
        # A window of 1000 steps, reached within the first few hundred, because
        # runs on small data sets are short.
        averaging = dict(type='EMAHook', ema_type='ExpMomentumEMA')
        averaging |= dict(momentum=0.001, gamma=200, update_buffers=True)
        hooks.append(dict(averaging, priority=49))
    if args.patience:
        saving = cfg.default_hooks.checkpoint
        best = saving.get('save_best', 'auto')
        best = 'coco/bbox_mAP' if best == 'auto' else best
        stopping = dict(type='EarlyStoppingHook', patience=args.patience)
        stopping |= dict(monitor=best, rule=saving.get('rule', 'greater'))
        hooks.append(dict(stopping, min_delta=0.0))
    replaced |= {hook['type'] for hook in hooks}
    if replaced:
        others = cfg.get('custom_hooks') or ()
        others = [hook for hook in others if hook.type not in replaced]
        cfg.custom_hooks = [*others, *hooks]


def unfreeze_norms(backbone: dict) -> None:
    """Let a backbone's batch norms train."""
    if 'requires_grad' in (backbone.get('norm_cfg') or {}):
        backbone.norm_cfg.requires_grad = True
    backbone.pop('norm_eval', None)
    # The default of mmdet's ResNet is True.
    if backbone.type.rpartition('.')[2] == 'ResNet':
        backbone.norm_eval = False


def fetch_starting_weights(cfg: Config) -> None:
    """Download the initial weights of a config before any other work.

    Options that changed the width or chose V2* change the weights as well.
    `UserError` if there are none, or if they cannot be downloaded.
    """
    backbone = cfg.model.get('backbone') or {}
    start = pretrained_of(backbone)
    public = {*PUBLIC_WEIGHTS.values(), *RESNETS.values()}
    if start and start.checkpoint in public:
        start.checkpoint = public_weights(backbone)
    has_none = start and start.checkpoint is None
    if has_none or (not start and backbone.get('frozen_stages', -1) >= 0):
        raise UserError(
            f'there are no public weights for the {backbone.type} in '
            f'{cfg.filename}. Add one of:\n'
            '  --backbone-weights FILE   start from your own weights\n'
            '  --from-scratch            start from random weights and train '
            'every layer'
        )
    if start:
        fetch_weights(start.checkpoint)


def scale_learning_rate(cfg: Config, args: Namespace) -> None:
    """Scale the learning rate with the batch, unless ``--lr`` is given.

    The rate of SGD scales linearly (arXiv 1706.02677), that of Adam with the
    square root of the batch (arXiv 2205.10287).
    """
    recipe = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if recipe is None:
        if args.auto_scale_lr:
            raise UserError(
                '--auto-scale-lr needs auto_scale_lr.base_batch_size in '
                f'{cfg.filename}'
            )
        return
    batch = cfg.train_dataloader.batch_size * get_world_size()
    batch *= cfg.optim_wrapper.get('accumulative_counts', 1)
    # A run from the config that this run saves must not scale again.
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=batch)
    optimizer = cfg.optim_wrapper.optimizer
    if args.lr or batch == recipe:
        return
    is_adam = 'adam' in str(optimizer.type).lower()
    rate = optimizer.lr * (batch / recipe) ** (0.5 if is_adam else 1.0)
    print_log(
        f'Learning rate {rate:.3g} instead of {optimizer.lr:.3g}: the batch '
        f'is {batch} images instead of {recipe}; set another rate with --lr',
        'current',
    )
    optimizer.lr = rate
