"""Everyday options of ``train``, each with everything that depends on it."""

import os
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec

import mmengine.device.utils
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from ..backbones.pretrained import (
    PUBLIC_WEIGHTS,
    RESNETS,
    fetch_weights,
    public_weights,
)
from ..errors import UserError
from .run_config import (
    SPLITS,
    dicts_of,
    pretrained_of,
    without_pretrained,
)
from .schedule import stretch_schedule

# Transforms whose `scale` is the size that images are resized to, and those
# that have sizes of their own, which one number cannot set.
RESIZE = {'Resize', 'FixScaleResize'}
SIZED = {
    'CachedMixUp',
    'CachedMosaic',
    'MixUp',
    'Mosaic',
    'Pad',
    'RandomChoiceResize',
    'RandomCrop',
    'RandomResize',
}
# Necks whose input is every level that the backbone returns.
NECKS = {'FPN', 'LightHeadNeck', 'RFCNNeck'}
RPN_OF_BACKBONE = {'LightHeadNeck', 'RFCNNeck'}


def apply_settings(cfg: Config, args: Namespace) -> None:
    """Write what ``train``'s options ask for into the config.

    Args:
        cfg: Changed in place, in the order of `SETTINGS`.
        args: The command line.

    Raises:
        UserError: An option cannot be had of this config or machine.
    """
    others = args.backbone_weights or args.from_checkpoint
    if others:
        without_pretrained(cfg)
    for name, setting in SETTINGS.items():
        value = getattr(args, name, None)
        # 0 workers equal False.
        if value is not None and value is not False:
            setting(cfg, value)
    choose_start(
        cfg,
        others=bool(others or args.from_scratch),
        resumed=bool(cfg.get('resume') or cfg.get('load_from')),
    )
    scale_rate(cfg, given=args.lr is not None, asked=args.auto_scale_lr)


def choose_device(name: str) -> None:
    """Train on a device other than the one mmengine would take.

    Before anything is on a GPU: PyTorch then sees one GPU, or none.

    Args:
        name: ``'cpu'``, ``'cuda'`` or ``'cuda:N'``.

    Raises:
        UserError: There is no such device.
    """
    kind, _, number = name.partition(':')
    if kind not in ('cpu', 'cuda') or (number and not number.isdecimal()):
        raise UserError(f'--device: expected cpu, cuda or cuda:N, got {name}')
    if kind == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
        mmengine.device.utils.DEVICE = 'cpu'
        return
    if int(number or 0) >= torch.cuda.device_count():
        raise UserError(
            f'--device {name}: PyTorch sees {torch.cuda.device_count()} GPUs'
        )
    torch.cuda.set_device(int(number or 0))


def set_epochs(cfg: Config, epochs: int) -> None:
    """Set the length of the run; the schedule follows."""
    planned = cfg.train_cfg.get('max_epochs')
    if planned is None:
        raise UserError(
            f'--epochs: {cfg.filename} counts iterations; --cfg-options '
            'train_cfg.max_iters=N'
        )
    cfg.train_cfg.max_epochs = epochs
    stretch_schedule(cfg, planned)
    interval = cfg.train_cfg.get('val_interval', 1)
    # As often in the whole run as planned.
    cfg.train_cfg.val_interval = max(1, round(interval * epochs / planned))


def set_batch_size(cfg: Config, images: int) -> None:
    """Set the images per step of a process; `scale_rate` sets the rate."""
    cfg.train_dataloader.batch_size = images


def set_workers(cfg: Config, count: int) -> None:
    """Set how many processes read images."""
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if loader:
            loader.update(num_workers=count, persistent_workers=count > 0)


def set_image_size(cfg: Config, size: tuple[int, int]) -> None:
    """Set what images are resized to fit into, in training and testing."""
    for split in SPLITS:
        for node in dicts_of(cfg.get(f'{split}_dataloader')):
            kind = str(node.get('type')).rpartition('.')[2]
            if kind in SIZED:
                raise UserError(
                    f'--image-size: {kind} of {cfg.filename} has sizes of its '
                    'own; set them by --cfg-options'
                )
            if kind in RESIZE and 'scale' in node:
                node['scale'] = size


def set_width(cfg: Config, width: float) -> None:
    """Set the backbone's width; neck and RPN get its channels."""
    cfg.model.backbone.widen_factor = width
    fit_channels(cfg)


def set_star(cfg: Config, star: bool) -> None:
    """Make ShuffleNet V2 a V2*, with the enlarged receptive field."""
    if cfg.model.backbone.type.rpartition('.')[2] != 'ShuffleNetV2':
        raise UserError(
            f'--star is for ShuffleNetV2, and the backbone of {cfg.filename} '
            f'is {cfg.model.backbone.type}'
        )
    cfg.model.backbone.receptive_field = 'enlarged'


def fit_channels(cfg: Config) -> None:
    """Let neck and RPN expect the channels that the backbone has.

    Raises:
        UserError: The backbone does not take the config's options, or the
            neck is of a kind whose channels are unknown here.
    """
    neck = cfg.model.get('neck')
    if not isinstance(neck, dict) or neck.type not in NECKS:
        raise UserError(
            f'--width: the neck of {cfg.filename} is none of '
            f'{", ".join(sorted(NECKS))}; set widen_factor and the channels '
            'by --cfg-options'
        )
    config = {k: v for k, v in cfg.model.backbone.items() if k != 'init_cfg'}
    try:
        with (
            DefaultScope.overwrite_default_scope('mmdet'),
            torch.device('meta'),
        ):
            channels = tuple(MODELS.build(config).out_channels)
    except (TypeError, ValueError) as error:
        raise UserError(f'--width: {error}') from error
    neck.in_channels = channels
    if neck.type in RPN_OF_BACKBONE:
        cfg.model.rpn_head.in_channels = channels[neck.get('rpn_level', 0)]


def set_lr(cfg: Config, rate: float) -> None:
    """Set the learning rate, whatever the batch size."""
    cfg.optim_wrapper.optimizer.lr = rate


def set_amp(cfg: Config, on: bool) -> None:
    """Train in automatic mixed precision."""
    if not torch.cuda.is_available():
        raise UserError(
            '--amp needs a GPU, and PyTorch sees none here; leave it out'
        )
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def set_ema(cfg: Config, on: bool) -> None:
    """Validate and save weights averaged over the last steps."""
    # A window of 1000 steps that opens within the first few hundred: small
    # data sets have few steps.
    add_hook(
        cfg,
        dict(
            type='EMAHook',
            ema_type='ExpMomentumEMA',
            momentum=0.001,
            gamma=200,
            update_buffers=True,
            priority=49,
        ),
    )


def set_patience(cfg: Config, validations: int) -> None:
    """Stop once so many validations have not bettered the best one."""
    checkpoint = cfg.default_hooks.checkpoint
    monitor = checkpoint.get('save_best')
    if not monitor or monitor == 'auto':
        raise UserError(
            '--patience needs a score to watch; --cfg-options '
            'default_hooks.checkpoint.save_best=coco/bbox_mAP'
        )
    add_hook(
        cfg,
        dict(
            type='EarlyStoppingHook',
            monitor=monitor,
            rule=checkpoint.get('rule', 'greater'),
            patience=validations,
            min_delta=0.0,
        ),
    )


def add_hook(cfg: Config, hook: dict) -> None:
    """Add a hook, in the place of one of its type."""
    hooks = [
        h for h in cfg.get('custom_hooks') or () if h.type != hook['type']
    ]
    cfg.custom_hooks = [*hooks, hook]


def set_seed(cfg: Config, seed: int) -> None:
    """Seed every generator of random numbers."""
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)


def set_tensorboard(cfg: Config, on: bool) -> None:
    """Log to TensorBoard too."""
    if find_spec('tensorboard') is None:
        raise UserError(
            '--tensorboard needs the package tensorboard: '
            'pip install tensorboard'
        )
    cfg.visualizer.vis_backends.append(dict(type='TensorboardVisBackend'))


def set_from_scratch(cfg: Config, on: bool) -> None:
    """Start from random weights; nothing is frozen then.

    A batch norm that keeps the statistics it was initialised with, and layers
    that keep random weights, would be of no use.
    """
    without_pretrained(cfg)
    backbone = cfg.model.backbone
    trained = []
    if backbone.pop('frozen_stages', -1) != -1:
        trained.append('its first stages')
    frozen = not (backbone.get('norm_cfg') or {}).get('requires_grad', True)
    if backbone.pop('norm_eval', False) or frozen:
        trained.append('its batch norms')
    if frozen:
        backbone.norm_cfg.requires_grad = True
    # mmdet's ResNet has other defaults.
    if backbone.type.rpartition('.')[2] == 'ResNet':
        backbone.norm_eval = False
    print_log(
        'The backbone starts from random weights'
        + (f'; {" and ".join(trained)} train too' if trained else ''),
        'current',
    )


def choose_start(cfg: Config, others: bool, resumed: bool) -> None:
    """See that the backbone has the weights it is to start from.

    Public ones follow its width, and are downloaded before anything else is
    done.

    Args:
        cfg: Changed in place.
        others: Whether the command line names other starting weights.
        resumed: Whether the run goes on from, or loads, a whole checkpoint.

    Raises:
        UserError: They cannot be had, or layers that nothing has trained are
            frozen.
    """
    backbone = cfg.model.get('backbone') or {}
    if resumed:
        without_pretrained(cfg)
        return
    if others:
        return
    start = pretrained_of(backbone)
    if start is None:
        if backbone.get('frozen_stages', -1) >= 0:
            raise UserError(
                f'{cfg.filename} freezes the first stages of a backbone that '
                'has no public weights. One of these goes on:\n'
                '  --backbone-weights FILE   start from weights you have\n'
                '  --from-scratch            start from random weights and '
                'train every layer'
            )
        return
    known = {*PUBLIC_WEIGHTS.values(), *RESNETS.values()}
    if start.checkpoint in known:
        public = public_weights(backbone)
        if public is None:
            raise UserError(
                f'there are no public weights for this {backbone.type}. One '
                'of these goes on:\n'
                '  --backbone-weights FILE   start from weights you have\n'
                '  --from-scratch            start from random weights'
            )
        start.checkpoint = public
    fetch_weights(start.checkpoint)


def scale_rate(cfg: Config, given: bool, asked: bool) -> None:
    """Scale the learning rate to the batch, where it is not the recipe's.

    SGD's in proportion (arXiv 1706.02677), Adam's by the square root, as the
    size of its steps grows with the noise alone (arXiv 2205.10287).

    Args:
        cfg: ``auto_scale_lr.base_batch_size`` is the recipe's batch.
        given: Whether ``--lr`` says the rate.
        asked: Whether ``--auto-scale-lr`` asks for it.

    Raises:
        UserError: It was asked for, and the recipe's batch is not known.
    """
    recipe = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if recipe is None:
        if asked:
            raise UserError(
                '--auto-scale-lr needs auto_scale_lr.base_batch_size in '
                f'{cfg.filename}'
            )
        return
    batch = cfg.train_dataloader.batch_size * get_world_size()
    # Done here, and not again by a run from the config that this one leaves.
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=batch)
    if given or batch == recipe:
        return
    optimizer = cfg.optim_wrapper.optimizer
    is_adam = 'adam' in str(optimizer.type).lower()
    rate = optimizer.lr * (batch / recipe) ** (0.5 if is_adam else 1.0)
    print_log(
        f'Learning rate {rate:.3g} instead of {optimizer.lr:.3g}: a step has '
        f'{batch} images, and the recipe {recipe}'
        + (' (by the square root, for Adam)' if is_adam else '')
        + '; --lr sets another',
        'current',
    )
    optimizer.lr = rate


# In this order: random weights before the width, whose weights there may be.
SETTINGS: dict[str, Callable] = {
    'from_scratch': set_from_scratch,
    'star': set_star,
    'width': set_width,
    'epochs': set_epochs,
    'batch_size': set_batch_size,
    'image_size': set_image_size,
    'workers': set_workers,
    'lr': set_lr,
    'amp': set_amp,
    'ema': set_ema,
    'patience': set_patience,
    'seed': set_seed,
    'tensorboard': set_tensorboard,
}
