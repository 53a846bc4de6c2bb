"""Train a detector, or pretrain its backbone as a classifier.

    python tools/train.py configs/lighthead_shufflenetv2.py
    python tools/train.py configs/lighthead_shufflenetv2_custom.py \\
        --data-root my_data --epochs 60 --batch-size 8
    torchrun --nproc-per-node 8 tools/train.py \\
        configs/lighthead_shufflenetv2.py
    python tools/train.py configs/pretrain.py --network shufflenet_v2_x0_5
    python tools/train.py configs/lighthead_shufflenetv2.py \\
        --backbone-weights work_dirs/pretrain/iter_300000.pth

Each run gets its own folder, work_dirs/NAME (then NAME-2, NAME-3, ...), with
its checkpoints, log, config and curves.png.
"""

import argparse

from ..errors import Interrupted
from .options import (
    add_run_options,
    check_run_options,
    image_size,
    positive_int,
    positive_number,
    whole_number,
)

VALUES = {
    '--epochs': (positive_int, 'number of epochs; the schedule is scaled'),
    '--batch-size': (
        positive_int,
        'images per step and process; the learning rate is scaled',
    ),
    '--image-size': (
        image_size,
        'resize images to fit into WxH; default: the size in the config, or '
        'for your own data a size chosen from its images and boxes',
    ),
    '--workers': (whole_number, 'data loading processes'),
    '--lr': (positive_number, 'learning rate, used as given for any batch'),
    '--width': (
        positive_number,
        'width multiplier of the backbone, such as 0.5; neck and RPN adapt',
    ),
    '--patience': (positive_int, 'stop after N validations without progress'),
    '--device': (str, 'cpu, cuda or cuda:N'),
}
SWITCHES = {
    '--star': 'ShuffleNet V2*, with the enlarged receptive field',
    '--vertical-flip': 'also flip training images vertically: one third stay '
    'as they are, one third flip each way',
    '--multi-scale': 'train at 5 sizes, 0.75 to 1.25 times the image size, '
    'which is then not chosen from the data',
    '--amp': 'automatic mixed precision',
    '--sync-bn': 'train the batch norms, synchronised across GPUs',
    '--auto-scale-lr': 'scale the learning rate with the batch; already the '
    'default if the config has auto_scale_lr.base_batch_size',
    '--tensorboard': 'also log to TensorBoard',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help='config file')
    add_run_options(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CKPT',
        help='resume from CKPT, or from the last checkpoint of the latest run '
        'with this name and data',
    )
    parser.add_argument('--seed', type=int, help='random seed')
    start = parser.add_argument_group('initial weights')
    group = start.add_mutually_exclusive_group()
    group.add_argument(
        '--from-scratch',
        action='store_true',
        help='random weights; also train the layers that the config freezes',
    )
    group.add_argument(
        '--backbone-weights',
        metavar='FILE',
        help="pretrained weights of the backbone (ours, torchvision's, the "
        "authors', mmpretrain's or pytorchcv's); data_preprocessor is adapted",
    )
    group.add_argument(
        '--from',
        dest='from_checkpoint',
        metavar='CKPT',
        help='checkpoint of a detector, possibly with other classes: class '
        'layers start from it only for classes with the same name',
    )
    group = parser.add_argument_group('common settings')
    for name, (kind, text) in VALUES.items():
        group.add_argument(name, type=kind, help=text)
    group.add_argument(
        '--augment',
        choices=['none', 'light', 'strong'],
        help='augmentation of training images; light: flips and sizes; strong:'
        ' wider ranges, crops and colours; default: from the config',
    )
    group.add_argument(
        '--ema',
        action=argparse.BooleanOptionalAction,
        help='moving average of the weights; default: from the config',
    )
    for name, text in SWITCHES.items():
        group.add_argument(name, action='store_true', help=text)


def run(args: argparse.Namespace) -> None:
    check_run_options(args)
    from ..engine import early_log, run_data, settings, tasks, weights
    from ..engine.hooks import last_checkpoint
    from ..engine.run_config import load_config, require_writable
    from ..engine.run_dir import choose_run_dir, data_of
    from ..engine.runner import CheckedRunner, join_processes

    if args.device:
        settings.choose_device(args.device)
    early_log.keep_records()
    options = args.cfg_options or {}
    cfg = load_config(args.config, options, network=args.network)
    join_processes(args.launcher, cfg)
    task = tasks.task_of(cfg, args)
    cfg.launcher = args.launcher
    if options.get('resume') and not args.resume:
        args.resume = options.get('load_from') or 'auto'
    cfg.resume = bool(args.resume)
    if args.resume:
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.work_dir:
        require_writable(args.work_dir)
    settings.apply_settings(cfg, args)
    if args.backbone_weights:
        weights.use_backbone_weights(cfg, args.backbone_weights)
    if args.from_checkpoint:
        weights.adopt_input_of(cfg, args.from_checkpoint)
    if args.data_root:
        task.use_data_root(cfg, args)
    tables = task.check_data(cfg, ('train', 'val'), args)
    settings.adapt_image_size(cfg, tables.get('train', []))
    data = run_data.once_per_run(lambda: data_of(cfg))
    cfg.work_dir = choose_run_dir(
        cfg, data, args.work_dir, args.name, args.resume
    )
    run_data.note_data(cfg, data)
    runner = CheckedRunner.from_cfg(cfg)
    runner.trained_on = data
    if args.from_checkpoint:
        runner.start_from = lambda model: weights.load_other_classes(
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
            f'{last_checkpoint(cfg.work_dir)}; to continue, run the same '
            'command with --resume'
        ) from None
