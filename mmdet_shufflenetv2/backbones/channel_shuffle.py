"""Channel shuffle, the operation the ShuffleNet families are named after.

N images, C channels, H x W pixels.
"""

import torch
from torch import Tensor


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal the channels of each group out in turn (arXiv 1707.01083, Fig. 1).

    Channel ``g * C / groups + i`` moves to channel ``i * groups + g``.

    Args:
        x: (N, C, H, W).
        groups: number of groups; divides C.

    Returns:
        (N, C, H, W), the same channels in the new order.
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Concatenate two halves and shuffle them, in one pass over memory.

    Equal to ``channel_shuffle(torch.cat((even, odd), 1), groups=2)``.

    Args:
        even, odd: (N, C / 2, H, W) each.

    Returns:
        (N, C, H, W): ``even[:, 0], odd[:, 0], even[:, 1], ...``.
    """
    return torch.stack((even, odd), 2).flatten(1, 2)
