"""Draw the detections of a checkpoint on images.

    python tools/demo.py photo.jpg CONFIG CHECKPOINT --out-dir detections
    python tools/demo.py photos/ CONFIG CHECKPOINT --score-thr 0.5

Class names and their number come from the checkpoint. The boxes also go to
detections.json in the output folder: x1, y1, x2, y2 in pixels of the image.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from ..errors import UserError
from .options import add_cfg_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('images', help='an image, or a folder of images')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out-dir', default='detections', help='default: %(default)s'
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='draw boxes with at least this score; default: %(default)s',
    )
    parser.add_argument(
        '--device',
        help='default: cuda where PyTorch sees a GPU, or cpu',
    )
    add_cfg_options(parser)


def find_images(source: str, out_dir: str) -> list[Path]:
    """List the image, or the images below a folder but not in ``out_dir``."""
    from ..engine.pictures import SUFFIXES

    path, out = Path(source), Path(out_dir).resolve()
    if out == (path.parent if path.is_file() else path).resolve():
        raise UserError(
            f'the pictures have the names of the images, so --out-dir {out} '
            'must not be the folder of the images'
        )
    if path.is_file():
        return [path]
    images = sorted(
        image
        for image in path.rglob('*')
        if image.suffix.lower() in SUFFIXES
        and out not in image.resolve().parents
    )
    if not images:
        raise UserError(
            f'no image found at {source}; give an image, or a folder that '
            f'holds one ({", ".join(sorted(SUFFIXES))})'
        )
    return images


def as_records(result, classes, score_thr: float) -> list:
    """Turn an image's detections into plain records."""
    instances = result.pred_instances.cpu()
    instances = instances[instances.scores >= score_thr]
    return [
        {
            'class': classes[label] if classes else int(label),
            'score': round(float(score), 4),
            'box': [round(float(edge), 2) for edge in box],
        }
        for label, score, box in zip(
            instances.labels.tolist(),
            instances.scores,
            instances.bboxes,
            strict=True,
        )
    ]


def require_device(name: str) -> None:
    """Say in one line that a device cannot be used."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise UserError(f'--device {name}: {reason}') from error


def run(args: argparse.Namespace) -> None:
    """Draw what is found on every image."""
    import mmcv
    import torch
    from mmdet.apis import inference_detector
    from mmdet.visualization import DetLocalVisualizer
    from tqdm import tqdm

    from ..data import DatasetError
    from ..engine import detectors, run_config, tasks
    from ..engine.pictures import literal_text, picture_name

    images = find_images(args.images, args.out_dir)
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    require_device(device)
    cfg = run_config.load_config(args.config, args.cfg_options)
    task = tasks.kind_of(cfg)
    if task is not detectors:
        raise UserError(
            f'{args.config} is a {task.MODEL}, and this command draws '
            'detections. tools/test.py CONFIG CKPT --eval '
            f'{task.EVAL_WORDS[0]} tests it, and draws with --show-dir DIR'
        )
    run_config.require_writable(args.out_dir, 'folder', '--out-dir')
    model = detectors.load_detector(cfg, args.checkpoint, device)
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = model.dataset_meta
    source = Path(args.images)
    records, unreadable = {}, []
    for path in tqdm(images, unit='image'):
        name = path.relative_to(source) if source.is_dir() else path.name
        try:
            result = inference_detector(model, str(path))
        except DatasetError as error:
            unreadable.append(str(error))
            continue
        with literal_text():
            visualizer.add_datasample(
                str(name),
                mmcv.imread(str(path), channel_order='rgb'),
                result,
                draw_gt=False,
                pred_score_thr=args.score_thr,
                out_file=os.path.join(args.out_dir, picture_name(name)),
            )
        records[str(name)] = as_records(
            result, model.dataset_meta['classes'], args.score_thr
        )
    out_file = Path(args.out_dir) / 'detections.json'
    out_file.write_text(json.dumps(records, indent=1))
    print(f'{len(records)} pictures and {out_file.name}: {args.out_dir}')
    if unreadable:
        sys.exit('error: left out\n  ' + '\n  '.join(unreadable))
