"""Test a detector or a classifier: numbers, result files, pictures.

    python tools/test.py configs/lighthead_shufflenetv2.py CKPT --eval bbox
    python tools/test.py CONFIG CKPT --eval bbox --out results.pkl \\
        --json results.json --show-dir pictures
    python tools/test.py CONFIG results.pkl --eval bbox
    python tools/test.py configs/pretrain/shufflenetv2_x1_0.py CKPT \\
        --eval error

The third form evaluates a result file of --out or --json again, without the
network.
"""

import argparse
import json
import os
import shutil
import tempfile

from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader

from mmdet_shufflenetv2.compat.input_format import declared_format
from mmdet_shufflenetv2.engine import (
    CheckedRunner,
    checkpoint_meta,
    run_config,
    tasks,
)
from mmdet_shufflenetv2.engine.command_line import (
    add_common_arguments,
    add_data_arguments,
    make_parser,
    parse_run,
    reporting_errors,
)
from mmdet_shufflenetv2.engine.evaluation import (
    ResultFileMetric,
    coco_metrics,
)
from mmdet_shufflenetv2.engine.predictions import evaluate_predictions

# What the names of pickles end in.
PICKLES = ('.pkl', '.pickle')


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        help='checkpoint, or a result file of --out or --json',
    )
    parser.add_argument(
        '--eval',
        nargs='+',
        choices=tasks.all_eval_words(),
        help='of a detector (default: bbox) bbox: the 12 COCO numbers, '
        'proposal: recall whatever the class; of a classifier error: top-1 '
        'and top-5 error beside the published one',
    )
    parser.add_argument(
        '--out',
        metavar='FILE.pkl',
        help="write predictions in mmdet's pickle format",
    )
    parser.add_argument(
        '--json', metavar='FILE.json', help='write COCO-format results'
    )
    parser.add_argument(
        '--show-dir', metavar='DIR', help='draw what was found here'
    )
    parser.add_argument(
        '--show-score-thr',
        type=float,
        default=0.3,
        help='draw boxes with at least this score',
    )
    add_common_arguments(parser)
    add_data_arguments(parser)
    return parse_run(parser)


def apply_arguments(
    cfg: Config, args: argparse.Namespace, task: tasks.Task
) -> None:
    """Write what the command line asks for into the config."""
    cfg.launcher = args.launcher
    cfg.load_from = args.checkpoint
    if args.out and not args.out.endswith(PICKLES):
        raise run_config.UsageError(
            '--out writes a pickle, so its name must end in .pkl or .pickle, '
            f'got {args.out}; --json writes JSON'
        )
    if args.show_dir and args.launcher != 'none':
        raise run_config.UsageError(
            '--show-dir would draw the images of the first process only; '
            'draw without --launcher'
        )
    if args.show_dir:
        cfg.default_hooks.visualization = task.drawing(
            os.path.abspath(args.show_dir), args.show_score_thr
        )
        # The hook writes the files; a backend would write them once more.
        cfg.visualizer.vis_backends = []


def require_outputs(args: argparse.Namespace) -> None:
    """Refuse before the run what could not be written after it."""
    for option, path in ('--out', args.out), ('--json', args.json):
        if path and os.path.isdir(path):
            raise run_config.UsageError(
                f'{option} {path} is a folder; name a file in it'
            )
        if path:
            run_config.require_writable(
                os.path.dirname(path) or '.',
                f'folder of {os.path.basename(path)},',
                option,
            )
    if args.show_dir:
        run_config.require_writable(args.show_dir, 'folder', '--show-dir')


def test_network(
    cfg: Config, args: argparse.Namespace, task: tasks.Task
) -> None:
    """Predict every test image, evaluate, and keep what was asked for."""
    with tempfile.TemporaryDirectory() as folder:
        prefix = os.path.join(folder, 'results')
        metrics = task.metrics(cfg, args.eval, prefix)
        if args.out:
            metrics.append(ConfigDict(type=task.dump, out_file_path=args.out))
        cfg.test_evaluator = metrics
        runner = CheckedRunner.from_cfg(cfg)
        runner.test()
        if args.json and runner.rank == 0:
            os.makedirs(os.path.dirname(args.json) or '.', exist_ok=True)
            shutil.move(f'{prefix}.bbox.json', args.json)
            runner.logger.info(f'Results: {args.json}')
        if args.show_dir:
            runner.logger.info(f'Pictures: {args.show_dir}')


def test_file(cfg: Config, args: argparse.Namespace) -> None:
    """Evaluate a result file again."""
    MMLogger.get_instance('test')
    if args.checkpoint.endswith(PICKLES):
        metainfo = cfg.test_dataloader.dataset.get('metainfo') or {}
        results = evaluate_predictions(
            args.checkpoint,
            cfg.test_evaluator,
            args.eval,
            metainfo.get('classes'),
        )
        print(json.dumps(results, indent=2))
        return
    for metric in coco_metrics(cfg.test_evaluator, args.eval):
        metric.pop('type')
        results = ResultFileMetric(args.checkpoint, **metric).evaluate_file()
        print(json.dumps(results, indent=2))


def main() -> None:
    args = parse_args()
    cfg = run_config.load_config(args.config, args.cfg_options, args.work_dir)
    if not cfg.get('test_dataloader'):
        raise run_config.UsageError(
            f'{args.config} has no test_dataloader, so there is nothing to '
            'test'
        )
    task = tasks.task_of(cfg, args)
    apply_arguments(cfg, args, task)
    if args.data_root:
        task.use_data_root(cfg, args)
    run_config.require_writable(cfg.work_dir)
    require_outputs(args)
    from_file = args.checkpoint.endswith(('.json', *PICKLES))
    if not from_file:
        checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, 'cpu')
        task.adopt_classes(cfg, checkpoint)
        checkpoint_meta.adopt_input_format(
            cfg, declared_format(checkpoint, args.checkpoint), args.checkpoint
        )
    task.check_data(cfg, ('test',), args)
    if from_file:
        test_file(cfg, args)
    else:
        test_network(cfg, args, task)


if __name__ == '__main__':
    reporting_errors(main)
