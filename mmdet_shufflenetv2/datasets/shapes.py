"""The embedded detection data set: drawn shapes in COCO's format and layout.

    python -m mmdet_shufflenetv2.datasets.shapes data/shapes

writes ``annotations/instances_{train,val}.json``, ``train/*.png``,
``val/*.png`` and ``manifest.json``. The bytes depend on the options alone.
"""

import argparse
import hashlib
import json
import os
import shutil
import struct
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from pycocotools import mask as rle
from tqdm import tqdm

from .drawing import RandomSource
from .scenes import CLASSES, Instance, SceneSpec, draw_scene

#: Raised whenever the same options give other bytes than before.
VERSION = 3
MANIFEST = 'manifest.json'
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


def encode_png(image: np.ndarray) -> bytes:
    """An RGB uint8 (H, W, 3) image as PNG without compression.

    Compressors give other bytes from version to version; stored blocks do
    not, noisy pictures hardly shrink, and reading is fast.
    """
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = image.reshape(height, -1)
    raw = rows.tobytes()
    stream = [b'\x78\x01']
    for start in range(0, len(raw), 65535):
        block = raw[start : start + 65535]
        final = start + 65535 >= len(raw)
        stream.append(
            struct.pack('<BHH', final, len(block), 65535 ^ len(block))
        )
        stream.append(block)
    stream.append(struct.pack('>I', zlib.adler32(raw)))
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    chunks = (b'IHDR', header), (b'IDAT', b''.join(stream)), (b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(body))
        + kind
        + body
        + struct.pack('>I', zlib.crc32(kind + body))
        for kind, body in chunks
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


def _write_split(
    folder: Path, split: str, spec: ShapesSpec, bar: tqdm
) -> dict[str, str]:
    """Write one split and return the SHA-256 of each of its files."""
    digests = {}
    images, annotations = [], []
    first_id = {'train': 1, 'val': spec.train + 1}[split]
    (folder / split).mkdir()
    for index in range(getattr(spec, split)):
        rng = RandomSource(spec.seed, SPLITS.index(split), index)
        scene = draw_scene(rng, spec.scene)
        name, image_id = f'{index:06d}.png', first_id + index
        data = encode_png(scene.image)
        (folder / split / name).write_bytes(data)
        digests[f'{split}/{name}'] = hashlib.sha256(data).hexdigest()
        height, width = scene.image.shape[:2]
        images.append(
            dict(id=image_id, file_name=name, height=height, width=width)
        )
        for instance in scene.instances:
            annotations.append(
                annotation(instance, image_id, len(annotations) + 1)
            )
        bar.update()
    text = json.dumps(
        {
            'info': {'description': 'drawn shapes', 'version': str(VERSION)},
            'licenses': [],
            'categories': [
                dict(id=label + 1, name=name, supercategory='shape')
                for label, name in enumerate(CLASSES)
            ],
            'images': images,
            'annotations': annotations,
        }
    ).encode()
    path = f'annotations/instances_{split}.json'
    (folder / path).write_bytes(text)
    digests[path] = hashlib.sha256(text).hexdigest()
    return digests


def _description(spec: ShapesSpec) -> dict:
    # Through JSON and back, so that it compares equal to what was stored.
    return json.loads(json.dumps({'version': VERSION, **asdict(spec)}))


def is_complete(out_dir: str | os.PathLike, spec: ShapesSpec) -> bool:
    """Whether the folder holds this data set, by the sum of every file."""
    folder = Path(out_dir)
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest['spec'] != _description(spec):
            return False
        return all(
            hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
            for name, sha256 in manifest['sha256'].items()
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def _drop_abandoned(out_dir: Path) -> None:
    """Remove the half-written folders of processes that are gone."""
    for left in out_dir.parent.glob(f'.{out_dir.name}.partial-*'):
        try:
            os.kill(int(left.name.rpartition('-')[2]), 0)
        except ProcessLookupError:
            shutil.rmtree(left)
        except PermissionError:
            continue


def _refuse_foreign(folder: Path) -> None:
    """Raise unless the folder is absent, empty or made by us."""
    foreign = folder.exists() and (
        not folder.is_dir()
        or (any(folder.iterdir()) and not (folder / MANIFEST).is_file())
    )
    if foreign:
        raise ValueError(
            'out_dir must be a new or empty folder or an earlier data set of '
            f'this command, but {folder} holds something else (no {MANIFEST})'
        )


def generate(
    out_dir: str | os.PathLike,
    spec: ShapesSpec | None = None,
    progress: bool = False,
) -> bool:
    """Write the data set unless the folder already holds it.

    It is written beside ``out_dir`` and renamed when finished, so a folder
    of that name is always whole.

    Returns:
        Whether anything was written.

    Raises:
        ValueError: ``out_dir`` holds files that this function did not make.
    """
    spec = spec or ShapesSpec()
    folder = Path(os.path.abspath(out_dir))
    if is_complete(folder, spec):
        return False
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _drop_abandoned(folder)
    partial = folder.parent / f'.{folder.name}.partial-{os.getpid()}'
    try:
        (partial / 'annotations').mkdir(parents=True)
        with tqdm(
            total=spec.train + spec.val,
            desc='drawing',
            unit='image',
            disable=not progress,
        ) as bar:
            digests = {}
            for split in SPLITS:
                digests.update(_write_split(partial, split, spec, bar))
        manifest = {'spec': _description(spec), 'sha256': digests}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1))
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


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
    try:
        spec = ShapesSpec(
            options.train,
            options.val,
            options.seed,
            SceneSpec(width=width, height=height),
        )
        made = generate(options.out_dir, spec, progress=True)
    except ValueError as error:
        parser.error(str(error))
    state = 'written' if made else 'already complete'
    print(
        f'{options.out_dir}: {spec.train} + {spec.val} images of '
        f'{len(CLASSES)} classes, {state}'
    )


if __name__ == '__main__':
    main()
