"""Test a detector or a classifier: numbers, result files, pictures.

    python tools/test.py configs/lighthead_shufflenetv2.py CKPT --eval bbox
    python tools/test.py CONFIG CKPT --eval bbox --json results.json \\
        --out results.pkl --show-dir pictures
    python tools/test.py CONFIG results.json --eval bbox
    python tools/test.py configs/pretrain.py CKPT --eval error \\
        --network shufflenet_v2_x0_5

The third form evaluates the file of --json again, without the network.
"""

import argparse
import json
import os
import shutil
import tempfile

from ..errors import UserError
from .options import add_data_options, add_run_options, check_run_options

# What the names of pickles end in.
PICKLES = ('.pkl', '.pickle')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', help='checkpoint, or a result file of --json'
    )
    parser.add_argument(
        '--eval',
        nargs='+',
        choices=['bbox', 'proposal', 'error'],
        help='of a detector (default: bbox) bbox: the 12 COCO numbers, '
        'proposal: recall of the region proposals, whatever the class; of a '
        'classifier error: top-1 and top-5 error beside the published one',
    )
    parser.add_argument(
        '--json', metavar='FILE.json', help='write COCO-format results'
    )
    parser.add_argument(
        '--out',
        metavar='FILE.pkl',
        help="write predictions in mmdet's pickle format, for mmdet's tools",
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
    add_run_options(parser)
    add_data_options(parser)


def run(args: argparse.Namespace) -> None:
    """Test, once everything that can be checked before has been."""
    check_run_options(args)
    if args.checkpoint.endswith(PICKLES):
        raise UserError(
            f'{args.checkpoint} is a pickle, which could run any code when '
            'it is read; give the file of --json, or the checkpoint again'
        )
    require_outputs(args)
    from mmengine.runner import CheckpointLoader

    from ..compat.input_format import declared_format
    from ..engine import checkpoint_meta, run_config, tasks
    from ..engine.early_log import keep_records
    from ..engine.run_dir import TESTS
    from ..engine.runner import join_processes

    keep_records()
    cfg = run_config.load_config(
        args.config, args.cfg_options, network=args.network
    )
    join_processes(args.launcher, cfg)
    if not cfg.get('test_dataloader'):
        raise UserError(
            f'{args.config} has no test_dataloader, so there is nothing to '
            'test'
        )
    task = tasks.task_of(cfg, args)
    cfg.launcher = args.launcher
    cfg.load_from, cfg.resume = args.checkpoint, False
    # Beside the runs: what a test leaves must not replace a run's config.
    base = os.path.join('work_dirs', args.name) if args.name else cfg.work_dir
    cfg.work_dir = args.work_dir or os.path.join(base, TESTS)
    if args.data_root:
        task.use_data_root(cfg, args)
    run_config.require_writable(cfg.work_dir)
    from_file = args.checkpoint.endswith('.json')
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


def require_outputs(args: argparse.Namespace) -> None:
    """Refuse before the run what could not be written after it."""
    from ..engine.run_config import require_writable

    if args.out and not args.out.endswith(PICKLES):
        raise UserError(
            '--out writes a pickle, so its name must end in .pkl or .pickle, '
            f'got {args.out}; --json writes JSON'
        )
    if args.show_dir and args.launcher != 'none':
        raise UserError(
            '--show-dir would draw the images of the first process only; '
            'draw with one process'
        )
    for option, path in ('--out', args.out), ('--json', args.json):
        if path and os.path.isdir(path):
            raise UserError(f'{option} {path} is a folder; name a file in it')
        if path:
            require_writable(
                os.path.dirname(path) or '.',
                f'folder of {os.path.basename(path)},',
                option,
            )
    if args.show_dir:
        require_writable(args.show_dir, 'folder', '--show-dir')


def test_network(cfg, args: argparse.Namespace, task) -> None:
    """Predict every test image, evaluate, and keep what was asked for."""
    from ..engine import CheckedRunner
    from ..engine.evaluation import keep_proposals
    from ..paper.published import top1_error

    if args.show_dir:
        cfg.default_hooks.visualization = task.drawing(
            os.path.abspath(args.show_dir), args.show_score_thr
        )
        # The hook writes the files; a backend would write them once more.
        cfg.visualizer.vis_backends = []
    with tempfile.TemporaryDirectory() as folder:
        prefix = os.path.join(folder, 'results')
        words = list(args.eval)
        if args.json and 'bbox' not in words:
            words.append('bbox')
        published = {}
        if task.MODEL == 'classifier':
            published['published'] = top1_error(cfg.model.get('network'))
        metrics = task.metrics(cfg, words, prefix, **published)
        if args.out:
            metrics.append(dict(type=task.DUMP, out_file_path=args.out))
        cfg.test_evaluator = metrics if len(metrics) > 1 else metrics[0]
        runner = CheckedRunner.from_cfg(cfg)
        if 'proposal' in words:
            keep_proposals(getattr(runner.model, 'module', runner.model))
        runner.test()
        if args.json and runner.rank == 0:
            shutil.move(f'{prefix}.bbox.json', args.json)
            runner.logger.info(f'Results: {args.json}')
        if args.show_dir:
            runner.logger.info(f'Pictures: {args.show_dir}')


def test_file(cfg, args: argparse.Namespace) -> None:
    """Evaluate a result file again."""
    from mmengine.logging import MMLogger

    from ..engine.evaluation import ResultFileMetric, coco_metrics

    if 'proposal' in args.eval:
        raise UserError(
            f'--eval proposal: {args.checkpoint} holds detections, not region '
            'proposals; give the checkpoint'
        )
    MMLogger.get_instance('test')
    for metric in coco_metrics(cfg, args.eval):
        metric.pop('type')
        results = ResultFileMetric(args.checkpoint, **metric).evaluate_file()
        print(json.dumps(results, indent=2))
