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

import mmdet_shufflenetv2  # noqa: F401  (before mmdet, whose ops it brings)

# isort: split
import mmcv
import torch
from mmdet.apis import inference_detector
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from tqdm import tqdm

from mmdet_shufflenetv2.data import DatasetError
from mmdet_shufflenetv2.engine import run_config
from mmdet_shufflenetv2.engine.command_line import (
    add_cfg_options,
    make_parser,
    reporting_errors,
)
from mmdet_shufflenetv2.engine.detector import load_detector
from mmdet_shufflenetv2.engine.pictures import (
    SUFFIXES,
    literal_text,
    picture_name,
)


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
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
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='default: %(default)s',
    )
    add_cfg_options(parser)
    return parser.parse_args()


def find_images(source: str, out_dir: str) -> list[Path]:
    """List the image, or the images below a folder but not in ``out_dir``."""
    path, out = Path(source), Path(out_dir).resolve()
    if out == (path.parent if path.is_file() else path).resolve():
        raise run_config.UsageError(
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
        raise run_config.UsageError(
            f'no image found at {source}; give an image, or a folder that '
            f'holds one ({", ".join(sorted(SUFFIXES))})'
        )
    return images


def as_records(result: DetDataSample, classes, score_thr: float) -> list:
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
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise run_config.UsageError(f'--device {name}: {reason}') from error


def main() -> None:
    args = parse_args()
    images = find_images(args.images, args.out_dir)
    require_device(args.device)
    cfg = run_config.load_config(args.config, args.cfg_options)
    run_config.require_writable(args.out_dir, 'folder', '--out-dir')
    model = load_detector(cfg, args.checkpoint, args.device)
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


if __name__ == '__main__':
    reporting_errors(main)
