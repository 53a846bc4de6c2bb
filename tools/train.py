"""Train a detector, or a classifier to start one from.

    python tools/train.py configs/lighthead_shufflenetv2.py
    python tools/train.py configs/lighthead_shufflenetv2_custom.py \\
        --data-root my_data
    torchrun --nproc-per-node 8 tools/train.py \\
        configs/lighthead_shufflenetv2.py --launcher pytorch
    python tools/train.py configs/pretrain/shufflenetv2_x1_0.py
    python tools/train.py configs/lighthead_shufflenetv2.py \\
        --backbone-weights work_dirs/shufflenetv2_x1_0/iter_300000.pth

Checkpoints, the log and curves.png are kept in the work dir.
"""

import argparse
from importlib.util import find_spec

import torch

from mmdet_shufflenetv2.engine import CheckedRunner, run_config, tasks
from mmdet_shufflenetv2.engine.backbone_weights import use_backbone_weights
from mmdet_shufflenetv2.engine.command_line import (
    add_common_arguments,
    add_data_arguments,
    make_parser,
    parse_run,
    reporting_errors,
)
from mmdet_shufflenetv2.engine.divergence import last_checkpoint


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('config', help='config file')
    add_common_arguments(parser)
    add_data_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CKPT',
        help='go on from CKPT, or from the last checkpoint in the work dir',
    )
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the actual batch size',
    )
    parser.add_argument('--seed', type=int, help='seed of every generator')
    parser.add_argument(
        '--backbone-weights',
        metavar='FILE',
        help="pretrained weights of the backbone (ours, torchvision's, the "
        "authors', mmpretrain's or pytorchcv's); data_preprocessor follows",
    )
    parser.add_argument(
        '--tensorboard', action='store_true', help='also log to TensorBoard'
    )
    return parse_run(parser)


def apply_arguments(cfg, args: argparse.Namespace) -> None:
    """Write what the command line asks for into the config."""
    cfg.launcher = args.launcher
    if args.amp:
        if not torch.cuda.is_available():
            raise run_config.UsageError(
                '--amp needs a GPU, and PyTorch sees none here; leave it out'
            )
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise run_config.UsageError(
                '--auto-scale-lr needs auto_scale_lr.base_batch_size in '
                f'{args.config}'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.seed is not None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=args.seed)
    if args.backbone_weights:
        use_backbone_weights(cfg, args.backbone_weights)
    if args.tensorboard:
        if find_spec('tensorboard') is None:
            raise run_config.UsageError(
                '--tensorboard needs the package tensorboard: '
                'pip install tensorboard'
            )
        cfg.visualizer.vis_backends.append(dict(type='TensorboardVisBackend'))


def main() -> None:
    args = parse_args()
    cfg = run_config.load_config(args.config, args.cfg_options, args.work_dir)
    task = tasks.task_of(cfg, args)
    apply_arguments(cfg, args)
    if args.data_root:
        task.use_data_root(cfg, args)
    run_config.require_writable(cfg.work_dir)
    task.check_data(cfg, ('train', 'val'), args)
    runner = CheckedRunner.from_cfg(cfg)
    try:
        runner.train()
    except KeyboardInterrupt:
        raise run_config.Interrupted(
            f'stopped in iteration {runner.iter + 1}; '
            f'{last_checkpoint(cfg.work_dir)}; '
            'the same command with --resume goes on from it'
        ) from None


if __name__ == '__main__':
    reporting_errors(main)
