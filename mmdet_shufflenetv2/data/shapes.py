"""The embedded detection data set: drawn shapes in COCO's format and layout.

    python -m mmdet_shufflenetv2.data.shapes data/shapes

writes ``annotations/instances_{train,val}.json``, ``train/*.png``,
``val/*.png`` and ``manifest.json``. The bytes depend on the options alone.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain

import numpy as np
from pycocotools import mask as rle

from .drawing import RandomSource
from .drawn_folder import told_by, write_folder
from .png import encode_png
from .scenes import CLASSES, Instance, SceneSpec, draw_scene

#: Raised whenever the same options give other bytes than before.
VERSION = 3
SPLITS = ('train', 'val')


@dataclass(frozen=True)
class ShapesSpec:
    """The whole data set: ``train`` and ``val`` images, scenes, ``seed``."""

    train: int = 400
    val: int = 100
    seed: int = 0
    scene: SceneSpec = field(default_factory=SceneSpec)

    def __post_init__(self) -> None:
        for name, lowest in (('train', 1), ('val', 1), ('seed', 0)):
            if getattr(self, name) < lowest:
                raise ValueError(
                    f'{name} must be at least {lowest}, but got '
                    f'{getattr(self, name)}'
                )


def annotation(instance: Instance, image_id: int, ann_id: int) -> dict:
    """A COCO annotation; box (x, y, w, h) and area are those of the mask."""
    columns = np.flatnonzero(instance.mask.any(axis=0))
    rows = np.flatnonzero(instance.mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    code = rle.encode(np.asfortranarray(instance.mask, dtype=np.uint8))
    return {
        'id': ann_id,
        'image_id': image_id,
        'category_id': instance.label + 1,
        'bbox': [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
        'area': int(np.count_nonzero(instance.mask)),
        'iscrowd': int(instance.iscrowd),
        'segmentation': {
            'size': list(code['size']),
            'counts': code['counts'].decode('ascii'),
        },
    }


def _split_files(split: str, spec: ShapesSpec) -> Iterator[tuple[str, bytes]]:
    """The pictures of a split, then the annotation file of all of them."""
    images, annotations = [], []
    first_id = {'train': 1, 'val': spec.train + 1}[split]
    for index in range(getattr(spec, split)):
        rng = RandomSource(spec.seed, SPLITS.index(split), index)
        scene = draw_scene(rng, spec.scene)
        name, image_id = f'{index:06d}.png', first_id + index
        yield f'{split}/{name}', encode_png(scene.image)
        height, width = scene.image.shape[:2]
        images.append(
            dict(id=image_id, file_name=name, height=height, width=width)
        )
        for instance in scene.instances:
            annotations.append(
                annotation(instance, image_id, len(annotations) + 1)
            )
    content = {
        'info': {'description': 'drawn shapes', 'version': str(VERSION)},
        'licenses': [],
        'categories': [
            dict(id=label + 1, name=name, supercategory='shape')
            for label, name in enumerate(CLASSES)
        ],
        'images': images,
        'annotations': annotations,
    }
    yield (
        f'annotations/instances_{split}.json',
        json.dumps(content).encode(),
    )


def generate(
    out_dir: str | os.PathLike,
    spec: ShapesSpec | None = None,
    progress: bool = False,
) -> bool:
    """Write the data set unless the folder already holds it.

    Returns:
        Whether anything was written.

    Raises:
        ValueError: ``out_dir`` holds files that this function did not make.
    """
    spec = spec or ShapesSpec()
    return write_folder(
        out_dir,
        {'version': VERSION, **asdict(spec)},
        chain.from_iterable(_split_files(split, spec) for split in SPLITS),
        total=spec.train + spec.val + len(SPLITS),
        progress=progress,
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(
            f'must be WIDTHxHEIGHT in pixels, such as 256x192, got {text!r}'
        )
    return int(width), int(height)


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description='Draw the embedded detection data set in COCO format.'
    )
    parser.add_argument('out_dir', help='folder to write, e.g. data/shapes')
    parser.add_argument('--train', type=int, default=ShapesSpec.train)
    parser.add_argument('--val', type=int, default=ShapesSpec.val)
    default = SceneSpec()
    parser.add_argument(
        '--size',
        type=_size,
        default=(default.width, default.height),
        metavar='WIDTHxHEIGHT',
    )
    parser.add_argument('--seed', type=int, default=ShapesSpec.seed)
    options = parser.parse_args(args)
    width, height = options.size
    with told_by(parser):
        spec = ShapesSpec(
            options.train,
            options.val,
            options.seed,
            SceneSpec(width=width, height=height),
        )
        made = generate(options.out_dir, spec, progress=True)
    state = 'written' if made else 'already complete'
    print(
        f'{options.out_dir}: {spec.train} + {spec.val} images of '
        f'{len(CLASSES)} classes, {state}'
    )


if __name__ == '__main__':
    main()
