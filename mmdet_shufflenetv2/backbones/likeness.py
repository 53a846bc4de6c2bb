"""The published network that weights are of, to call a wrong file by name."""

from collections.abc import Mapping
from functools import cache

import torch
from mmdet.registry import MODELS
from torch import nn

from .zoo import NETWORKS

# A weight's name and shape.
Entry = tuple[str | None, tuple[int, ...]]


def network_like(
    kind: type, shapes: Mapping[str | None, tuple[int, ...]], style: str | None
) -> str | None:
    """The smallest network that has all of these weights.

    A detector's backbone lacks the last levels.

    Args:
        kind: class of backbone.
        shapes: of the weights, by this package's names; None for a name
            that there is not.
        style: of the networks, for classes that have one; None means the
            class's own choice.

    Returns:
        Its name in `NETWORKS`; None if there is no such network.
    """
    wanted = {(name, tuple(shape)) for name, shape in shapes.items()}
    sizes = {}
    for name, row in NETWORKS.items():
        if MODELS.get(row.config['type']) is kind:
            entries = entries_of(name, style)
            if wanted <= entries:
                sizes[name] = len(entries)
    return min(sizes, key=sizes.get, default=None)


@cache
def entries_of(network: str, style: str | None) -> frozenset[Entry]:
    """All weights of a published network, without the classifier."""
    weights = outlined(network, style).state_dict()
    return frozenset((k, tuple(v.shape)) for k, v in weights.items())


def outlined(network: str, style: str | None) -> nn.Module:
    """A published network's backbone with all its levels, without values.

    Args:
        network: its name in `NETWORKS`.
        style: as for `network_like`.
    """
    row = NETWORKS[network]
    config = dict(row.config, out_indices=(row.last_level,))
    if style:
        config['style'] = style
    # Not by the registry, which may look into another project's first.
    kind = MODELS.get(config.pop('type'))
    with torch.device('meta'):
        return kind(**config)
