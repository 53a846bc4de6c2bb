"""The embedded classification set: one drawn shape a picture, to pretrain on.

    python -m mmdet_shufflenetv2.data.shape_crops data/shape_crops

writes ``train/<class>/*.png``, ``val/<class>/*.png`` (ImageNet's layout) and
``manifest.json``. Shapes, textures and clutter are those of the detection
set, but there are more of them, half of them have no usual colour, and no
background is in both sets. The bytes depend on the options alone.
"""

import argparse
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain

import numpy as np

from .drawing import SHAPES, Placement, RandomSource
from .drawn_folder import told_by, write_folder
from .png import encode_png
from .scenes import CLASSES, Canvas, SceneSpec

#: Raised whenever the same options give other bytes than before.
VERSION = 1
#: Split: first number of its random streams, which the detection set's
#: splits (0 and 1) do not have.
SPLITS = {'train': 2, 'val': 3}
#: Side of a square of the shape's area, and where its middle may be, as
#: shares of the picture's side.
SIZE = (0.25, 0.75)
MIDDLE = (0.3, 0.7)


@dataclass(frozen=True)
class CropsSpec:
    """The whole data set.

    Args:
        train: Pictures per class.
        val: Pictures per class.
        size: Pixels per side; at least 64.
        seed: Another one gives other pictures.
    """

    train: int = 800
    val: int = 80
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        lowest = dict(train=1, val=1, size=64, seed=0)
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f'{name} must be at least {least}, but got '
                    f'{getattr(self, name)}'
                )

    @property
    def scene(self) -> SceneSpec:
        """How a picture is drawn."""
        return SceneSpec(
            width=self.size, height=self.size, distractors=4, usual_color=0.5
        )


def draw_crop(rng: RandomSource, spec: SceneSpec, label: int) -> np.ndarray:
    """Draw one shape over a cluttered background.

    Args:
        rng: Where the random numbers come from.
        spec: Size and clutter; square.
        label: Index of the class.

    Returns:
        RGB uint8 (H, W, 3).
    """
    canvas = Canvas(rng, spec)
    owner = canvas.add_owner(label, iscrowd=False)
    # Refused where too much of it would be outside.
    while not canvas.try_paint(owner, _placement(rng, label, spec.width)):
        pass
    return canvas.scene().image


def _placement(rng: RandomSource, label: int, side: int) -> Placement:
    squeeze = rng.uniform(0.6, 1.0)
    area = SHAPES[CLASSES[label]].area * squeeze
    return Placement(
        side * rng.uniform(*MIDDLE),
        side * rng.uniform(*MIDDLE),
        side * rng.uniform(*SIZE) / math.sqrt(area),
        rng.uniform(),
        squeeze,
    )


def _split_files(split: str, spec: CropsSpec) -> Iterator[tuple[str, bytes]]:
    for index in range(getattr(spec, split) * len(CLASSES)):
        rng = RandomSource(spec.seed, SPLITS[split], index)
        label = index % len(CLASSES)
        image = draw_crop(rng, spec.scene, label)
        yield f'{split}/{CLASSES[label]}/{index:06d}.png', encode_png(image)


def generate(
    out_dir: str | os.PathLike,
    spec: CropsSpec | None = None,
    progress: bool = False,
) -> bool:
    """Write the data set unless the folder already holds it.

    Returns:
        Whether anything was written.

    Raises:
        ValueError: ``out_dir`` holds files that this function did not make.
    """
    spec = spec or CropsSpec()
    return write_folder(
        out_dir,
        {'version': VERSION, 'kind': 'shape crops', **asdict(spec)},
        chain.from_iterable(_split_files(split, spec) for split in SPLITS),
        total=(spec.train + spec.val) * len(CLASSES),
        progress=progress,
    )


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=(
            "Draw the embedded classification data set in ImageNet's layout."
        )
    )
    parser.add_argument(
        'out_dir', help='folder to write, e.g. data/shape_crops'
    )
    for name, meaning in (
        ('train', 'training pictures per class'),
        ('val', 'validation pictures per class'),
        ('size', 'pixels per side'),
        ('seed', 'another one gives other pictures'),
    ):
        parser.add_argument(
            f'--{name}',
            type=int,
            default=getattr(CropsSpec, name),
            help=f'{meaning} (default: %(default)s)',
        )
    options = vars(parser.parse_args(args))
    out_dir = options.pop('out_dir')
    with told_by(parser):
        spec = CropsSpec(**options)
        made = generate(out_dir, spec, progress=True)
    state = 'written' if made else 'already complete'
    print(
        f'{out_dir}: {len(CLASSES)} classes of {spec.train} + {spec.val} '
        f'images, {state}'
    )


if __name__ == '__main__':
    main()
