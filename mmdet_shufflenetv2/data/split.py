"""Setting a part of the images apart for validation."""

import numpy as np

from .listing import plain
from .table import BoxTable, DatasetError


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
            f'of {table.title}'
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
