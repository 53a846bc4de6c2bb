"""Train a detector, or a classifier to start one from.

    python tools/train.py configs/lighthead_shufflenetv2.py
    python tools/train.py configs/lighthead_shufflenetv2_custom.py \\
        --data-root my_data --epochs 60 --batch-size 8
    torchrun --nproc-per-node 8 tools/train.py \\
        configs/lighthead_shufflenetv2.py
    python tools/train.py configs/pretrain.py --network shufflenet_v2_x0_5
    python tools/train.py configs/lighthead_shufflenetv2.py \\
        --backbone-weights work_dirs/pretrain/iter_300000.pth

A run has a folder of its own, work_dirs/NAME, or NAME-2 and so on where there
is one of that name: checkpoints, the log, curves.png, the config.
"""

import argparse

from ..errors import Interrupted, UserError
from .options import (
    add_data_options,
    add_run_options,
    check_run_options,
    image_size,
    positive_int,
    positive_number,
    whole_number,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('config', help='config file')
    add_run_options(parser)
    add_data_options(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CKPT',
        help='go on from CKPT, or from the last checkpoint of the last run of '
        'this name on this data',
    )
    parser.add_argument('--seed', type=int, help='seed of every generator')
    parser.add_argument(
        '--tensorboard', action='store_true', help='also log to TensorBoard'
    )
    start = parser.add_argument_group('what the weights start from')
    group = start.add_mutually_exclusive_group()
    group.add_argument(
        '--from-scratch',
        action='store_true',
        help='random weights; what the config freezes trains',
    )
    group.add_argument(
        '--backbone-weights',
        metavar='FILE',
        help="pretrained weights of the backbone (ours, torchvision's, the "
        "authors', mmpretrain's or pytorchcv's); data_preprocessor follows",
    )
    group.add_argument(
        '--from',
        dest='from_checkpoint',
        metavar='CKPT',
        help="a detector's checkpoint, of other classes perhaps: all but the "
        'class layers, and of these what belongs to classes of the same name',
    )
    group = parser.add_argument_group('everyday settings')
    group.add_argument(
        '--epochs', type=positive_int, help='length; the schedule follows'
    )
    group.add_argument(
        '--batch-size',
        type=positive_int,
        help='images per step and process; the learning rate follows',
    )
    group.add_argument(
        '--image-size',
        type=image_size,
        metavar='WxH',
        help='what images are resized to fit into',
    )
    group.add_argument(
        '--workers', type=whole_number, help='processes that read images'
    )
    group.add_argument(
        '--lr', type=positive_number, help='learning rate for this batch'
    )
    group.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the batch; on anyway where the '
        'config knows the batch of its recipe',
    )
    group.add_argument(
        '--width',
        type=positive_number,
        help='of the backbone, such as 0.5; neck and RPN follow',
    )
    group.add_argument(
        '--star',
        action='store_true',
        help='ShuffleNet V2*, with the enlarged receptive field',
    )
    group.add_argument('--device', help='cpu, cuda or cuda:N')
    group.add_argument(
        '--amp', action='store_true', help='automatic mixed precision'
    )
    group.add_argument(
        '--ema', action='store_true', help='average the weights over steps'
    )
    group.add_argument(
        '--patience',
        type=positive_int,
        metavar='N',
        help='stop after N validations without a better score',
    )


def run(args: argparse.Namespace) -> None:
    """Train, once everything that can be checked before has been."""
    check_run_options(args)
    from ..engine import CheckedRunner, run_config, run_dir, tasks
    from ..engine.backbone_weights import use_backbone_weights
    from ..engine.divergence import last_checkpoint
    from ..engine.early_log import keep_records
    from ..engine.fine_tuning import load_other_classes, prepare_for
    from ..engine.runner import join_processes
    from ..engine.settings import apply_settings, choose_device

    if args.device:
        choose_device(args.device)
    keep_records()
    options = args.cfg_options or {}
    cfg = run_config.load_config(args.config, options, network=args.network)
    join_processes(args.launcher, cfg)
    task = tasks.task_of(cfg, args)
    cfg.launcher = args.launcher
    if 'resume' not in options:
        cfg.resume = args.resume is not None
    if args.resume not in (None, 'auto'):
        cfg.load_from = args.resume
    apply_settings(cfg, args)
    if args.backbone_weights:
        use_backbone_weights(cfg, args.backbone_weights)
    if args.from_checkpoint:
        prepare_for(cfg, args.from_checkpoint)
    if args.data_root:
        task.use_data_root(cfg, args)
    cfg.work_dir = choose_work_dir(cfg, args)
    run_config.require_writable(cfg.work_dir)
    try:
        task.check_data(cfg, ('train', 'val'), args)
    except UserError:
        if not args.work_dir and args.resume is None:
            run_dir.give_back(cfg.work_dir)
        raise
    run_dir.note_data(cfg)
    runner = CheckedRunner.from_cfg(cfg)
    if args.from_checkpoint:
        runner.start_from = lambda model: load_other_classes(
            model,
            cfg,
            args.from_checkpoint,
            tuple(runner.train_dataloader.dataset.metainfo['classes']),
        )
    try:
        runner.train()
    except KeyboardInterrupt:
        raise Interrupted(
            f'stopped in iteration {runner.iter + 1}; '
            f'{last_checkpoint(cfg.work_dir)}; the same command with '
            '--resume goes on from it'
        ) from None


def choose_work_dir(cfg, args: argparse.Namespace) -> str:
    """The folder of this run.

    Raises:
        UserError: ``--resume`` has no run to go on with, or one that was
            trained on other data.
    """
    from pathlib import Path

    from ..engine.run_dir import last_run_dir, new_run_dir, require_same_data

    if args.work_dir:
        if args.resume == 'auto':
            require_same_data(args.work_dir, cfg)
        return args.work_dir
    base = str(Path('work_dirs', args.name)) if args.name else cfg.work_dir
    if args.resume == 'auto':
        return last_run_dir(base, cfg)
    if args.resume:
        return str(Path(args.resume).parent)
    return new_run_dir(base)
