"""Holding out part of the images for validation."""

import numpy as np

from .listing import ORDER, plain
from .table import BoxTable, DatasetError


def divides(table: BoxTable) -> bool:
    """Return whether the annotations name the validation images."""
    return 'train' in table.splits and bool({'val', 'test'} & {*table.splits})


def images_of_part(
    table: BoxTable, name: str, share: float | None, seed: int
) -> np.ndarray:
    """Return which images belong to a part, bool (N,); see ``Source.part``."""
    if share is None:
        present = [each for each in ORDER[name] if each in table.splits]
        return np.array([each in present[:1] for each in table.splits], bool)
    held_out = split_off(table, share, seed)
    return held_out if name == 'val' else ~held_out


def split_off(table: BoxTable, share: float, seed: int = 0) -> np.ndarray:
    """Choose images to hold out, with every class in both parts if possible.

    Args:
        table: N images.
        share: Fraction of the images to hold out, between 0 and 1.
        seed: Seed of the random choice.

    Returns:
        Which images are held out, bool (N,).
    """
    count = len(table)
    if not 0 < share < 1 or count < 2:
        raise DatasetError(
            'expected --val-fraction between 0 and 1 and at least 2 images '
            f'(or --val-ann FILE), got {share:g} of the {count} images of '
            f'{table.title}{table.errors}'
        )
    # Sorted by name: the choice depends on neither file order nor format.
    names = [plain(name).rpartition('/')[2] for name in table.names]
    by_name = np.array(sorted(range(count), key=names.__getitem__))
    order = by_name[np.random.default_rng(seed).permutation(count)]
    has = np.zeros((count, len(table.classes)), bool)
    has[table.image, table.labels] = True
    held_out, decided = np.zeros((2, count), bool)
    # Rare classes first: they have the fewest images to choose from.
    for label in np.argsort(has.sum(axis=0), kind='stable'):
        own = order[has[order, label]]
        wanted = min(max(1, round(share * len(own))), len(own) - 1)
        missing = max(0, wanted - int(held_out[own].sum()))
        held_out[own[~decided[own]][:missing]] = True
        decided[own] = True
    # Fill up with images without objects.
    missing = max(0, round(share * count) - int(held_out.sum()))
    held_out[order[~decided[order]][:missing]] = True
    if not held_out.any():
        held_out[order[0]] = True
    return held_out
