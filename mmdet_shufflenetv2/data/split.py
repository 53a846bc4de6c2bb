"""Setting a part of the images apart for validation."""

import numpy as np

from .listing import ORDER, plain
from .table import BoxTable, DatasetError


def divides(table: BoxTable) -> bool:
    """Whether a file says itself which images are for validation."""
    return 'train' in table.splits and bool({'val', 'test'} & {*table.splits})


def images_of_part(
    table: BoxTable, name: str, share: float | None, seed: int
) -> np.ndarray:
    """Which images are those of a part, bool (N,); see ``Source.part``."""
    if share is None:
        there = [each for each in ORDER[name] if each in table.splits]
        return np.array([each in there[:1] for each in table.splits], bool)
    apart = split_off(table, share, seed)
    return apart if name == 'val' else ~apart


def split_off(table: BoxTable, share: float, seed: int = 0) -> np.ndarray:
    """Set images apart so that each class is in both parts, rare ones first.

    Args:
        table: N images.
        share: Of the images to set apart, between 0 and 1.
        seed: Another one sets others apart.

    Returns:
        Which images are set apart, bool (N,).
    """
    count = len(table)
    if not 0 < share < 1 or count < 2:
        raise DatasetError(
            'expected --val-fraction to lie between 0 and 1, and 2 images or '
            f'more (or --val-ann FILE), got {share:g} of the {count} images '
            f'of {table.title}{table.errors}'
        )
    # By name, so that a file that lists its images in another order, or has
    # been converted from another format, is split alike.
    names = [plain(name).rpartition('/')[2] for name in table.names]
    by_name = np.array(sorted(range(count), key=names.__getitem__))
    order = by_name[np.random.default_rng(seed).permutation(count)]
    has = np.zeros((count, len(table.classes)), bool)
    has[table.image, table.labels] = True
    apart, decided = np.zeros((2, count), bool)
    for label in np.argsort(has.sum(axis=0), kind='stable'):
        mine = order[has[order, label]]
        wanted = min(max(1, round(share * len(mine))), len(mine) - 1)
        missing = max(0, wanted - int(apart[mine].sum()))
        apart[mine[~decided[mine]][:missing]] = True
        decided[mine] = True
    # Images without objects make up the number.
    missing = max(0, round(share * count) - int(apart.sum()))
    apart[order[~decided[order]][:missing]] = True
    if not apart.any():
        apart[order[0]] = True
    return apart
