"""Evaluate a detector or a classifier; write results, plots and pictures.

    python tools/test.py configs/lighthead_shufflenetv2.py CKPT --eval bbox
    python tools/test.py CONFIG CKPT --json results.json --plots
    python tools/test.py CONFIG results.json --eval bbox
    python tools/test.py CONFIG best.onnx --eval bbox
    python tools/test.py configs/pretrain.py CKPT --eval error \\
        --network shufflenet_v2_x0_5

The third form re-evaluates a file written by --json, without running the
network; the fourth evaluates an exported model on the config's data.
"""

import argparse
import contextlib
import json
import os
import shutil
import tempfile

from ..errors import UserError
from .options import add_run_options, check_run_options, image_size

PICKLES = '.pkl', '.pickle'
SWITCHES = {
    '--plots': 'write AP per class, precision-recall curves, the confusion '
    'matrix and the worst images into the work dir',
    '--fast-eval': 'use faster-coco-eval instead of pycocotools',
    '--tta': 'test-time augmentation: merge the detections in each image and '
    'in copies of it flipped as in training',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        help='checkpoint, exported model, or result file written by --json',
    )
    parser.add_argument(
        '--eval',
        nargs='+',
        choices=['bbox', 'proposal', 'error'],
        help='for a detector, bbox (default): COCO metrics and AP per class, '
        'or proposal: class-agnostic recall of the region proposals; for a '
        'classifier, error: top-1 and top-5, next to the published top-1',
    )
    parser.add_argument(
        '--json', metavar='FILE.json', help='write COCO-format results'
    )
    parser.add_argument(
        '--out',
        metavar='FILE.pkl',
        help="write predictions as a pickle for mmdet's own tools",
    )
    parser.add_argument(
        '--show-dir', metavar='DIR', help='save images with detections here'
    )
    parser.add_argument(
        '--image-size',
        type=image_size,
        metavar='WxH',
        help='test at this size; default: the training size. A slightly '
        'larger one may find more',
    )
    parser.add_argument(
        '--show-score-thr',
        type=float,
        default=0.3,
        help='minimum score of the boxes to draw, also for --plots',
    )
    for name, text in SWITCHES.items():
        parser.add_argument(name, action='store_true', help=text)
    add_run_options(parser)


def run(args: argparse.Namespace) -> None:
    check_run_options(args)
    from mmengine.runner import CheckpointLoader

    from ..deploy import runtime
    from ..engine import early_log, evaluation, run_config, tasks
    from ..engine.pictures import draw_results, save_plots
    from ..engine.run_dir import TESTS
    from ..engine.runner import join_processes

    is_file = args.checkpoint.endswith('.json')
    is_exported = runtime.is_exported(args.checkpoint)
    check_outputs(args, needs_network=not is_file and not is_exported)
    early_log.keep_records()
    cfg = run_config.load_config(
        args.config, args.cfg_options, network=args.network
    )
    join_processes(args.launcher, cfg)
    if not cfg.get('test_dataloader'):
        raise UserError(f'{args.config} has no test_dataloader')
    task = tasks.task_of(cfg, args)
    if args.image_size:
        run_config.set_image_size(cfg, args.image_size)
    cfg.launcher = args.launcher
    cfg.load_from, cfg.resume = args.checkpoint, False
    # A subfolder, because a test must not overwrite the config of a run.
    base = os.path.join('work_dirs', args.name) if args.name else cfg.work_dir
    cfg.work_dir = args.work_dir or os.path.join(base, TESTS)
    if args.data_root:
        task.use_data_root(cfg, args)
    if is_exported:
        detector = runtime.Detector(args.checkpoint)
        meta = dict(dataset_meta=dict(classes=detector.classes))
        task.adopt_classes(cfg, dict(meta=meta))
    elif not is_file:
        checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, 'cpu')
        task.adopt_classes(cfg, checkpoint)
        run_config.adopt(cfg, checkpoint, args.checkpoint)
    run_config.require_writable(cfg.work_dir)
    task.check_data(cfg, ('test',), args)
    with contextlib.ExitStack() as stack:
        if args.fast_eval:
            stack.enter_context(evaluation.use_faster_coco_eval())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        results = os.path.join(folder, 'results.bbox.json')
        if is_file:
            results, metric = args.checkpoint, evaluation.box_metric(cfg)
        elif is_exported:
            metric = evaluation.box_metric(cfg, detector.classes)
            evaluation.detect_test_images(cfg, detector, metric, results)
        else:
            metric = test_network(cfg, args, task, folder)
        if is_file or is_exported:
            print(json.dumps(metric.evaluate_file(results), indent=2))
        if metric and args.json:
            shutil.copyfile(results, args.json)
            print(f'Results: {args.json}')
        score_thr = args.show_score_thr
        if metric and args.plots:
            save_plots(cfg.work_dir, metric.table, results, score_thr)
            print(f'Plots: {cfg.work_dir}')
        if metric and args.show_dir:
            draw_results(args.show_dir, metric.table, results, score_thr)
            print(f'Pictures: {args.show_dir}')


def check_outputs(args: argparse.Namespace, needs_network: bool) -> None:
    """Fail early if the output options cannot work."""
    from ..engine.run_config import require_writable

    if args.checkpoint.endswith(PICKLES):
        raise UserError(
            f'{args.checkpoint} is a pickle, and reading one can run '
            'arbitrary code; pass the file written by --json, or a checkpoint'
        )
    if args.out and not args.out.endswith(PICKLES):
        raise UserError(
            '--out: expected a file name that ends in .pkl or .pickle, got '
            f'{args.out}; for JSON use --json'
        )
    proposal = 'proposal' in (args.eval or ())
    options = proposal, args.out, args.tta, args.image_size
    if any(options) and not needs_network:
        raise UserError(
            '--eval proposal, --out, --tta and --image-size need a '
            f'checkpoint, got {args.checkpoint}'
        )
    for option, path in ('--out', args.out), ('--json', args.json):
        if path and os.path.isdir(path):
            raise UserError(f'{option}: expected a file, got folder {path}')
        if path:
            folder, name = os.path.split(path)
            require_writable(folder or '.', f'folder of {name},', option)
    if args.show_dir:
        require_writable(args.show_dir, 'folder', '--show-dir')


def test_network(cfg, args: argparse.Namespace, task, folder: str):
    """Test a checkpoint and return its box metric, None without one.

    The metric writes ``results.bbox.json`` into ``folder``.
    """
    from ..data import BoxMetric
    from ..engine import CheckedRunner
    from ..engine.evaluation import keep_proposals, use_tta
    from ..measure.published import values

    words = [*args.eval]
    if args.json or args.plots or args.show_dir:
        words.append('bbox')
    known = {}
    if task.MODEL == 'classifier':
        errors = values('top-1 error')
        known['published'] = errors.get(cfg.model.get('network'))
    prefix = os.path.join(folder, 'results')
    cfg.test_evaluator = task.metrics(cfg, words, prefix, **known)
    if args.out:
        dump = dict(type=task.DUMP, out_file_path=args.out)
        cfg.test_evaluator.append(dump)
    if args.tta:
        use_tta(cfg)
    runner = CheckedRunner.from_cfg(cfg)
    if 'proposal' in words:
        keep_proposals(getattr(runner.model, 'module', runner.model))
    runner.test()
    found = [m for m in runner.test_evaluator.metrics if type(m) is BoxMetric]
    return found[0] if found and runner.rank == 0 else None
