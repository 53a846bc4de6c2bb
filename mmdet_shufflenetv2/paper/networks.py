"""FLOPs and parameters of every network: published, and computed here."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..backbones.zoo import NETWORKS, build_classifier, network
from .published import published_costs

Row = dict[str, str]


@dataclass(frozen=True)
class Cost:
    """What a classification network costs.

    Attributes:
        mflops: multiply-adds of one image of the network's size, in
            millions; of convolutions and fully connected layers.
        params_m: parameters in millions.
    """

    mflops: float
    params_m: float


@cache
def cost(name: str) -> Cost:
    """The cost of a network of the zoo, with 1000 classes.

    Raises:
        ValueError: no network has that name.
    """
    side = network(name).input_size
    with torch.device('meta'):
        model = build_classifier(name).eval()
        image = torch.empty(1, 3, side, side)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    # It counts a multiply-add twice.
    mflops = counter.get_total_flops() / 2e6
    return Cost(mflops, sum(p.numel() for p in model.parameters()) / 1e6)


def network_rows(names: Iterable[str] = NETWORKS) -> list[Row]:
    """A row per network, with a number for what was chosen.

    Raises:
        ValueError: no network has one of the names.
    """
    notes = {row['what was chosen']: row['note'] for row in choice_rows()}
    published = published_costs()
    rows = []
    for name in names:
        row, here = network(name), cost(name)
        mflops, params_m = published.get(name, (None, None))
        rows.append(
            {
                'network': name,
                'image': str(row.input_size),
                'MFLOPs published': _published(mflops, 0),
                'MFLOPs here': f'{here.mflops:.1f}',
                'MFLOPs off by': _off(here.mflops, mflops),
                'M params published': _published(params_m, 1),
                'M params here': f'{here.params_m:.2f}',
                'M params off by': _off(here.params_m, params_m),
                'note': notes.get(row.choice, '-'),
            }
        )
    return rows


def choice_rows() -> list[Row]:
    """What publications leave open and was chosen here, each told once."""
    networks: dict[str, list[str]] = {}
    for name, row in NETWORKS.items():
        if row.choice:
            networks.setdefault(row.choice, []).append(name)
    return [
        {
            'note': str(number),
            'networks': ', '.join(names),
            'what was chosen': choice,
        }
        for number, (choice, names) in enumerate(networks.items(), start=1)
    ]


def _published(value: float | None, decimals: int) -> str:
    return 'not published' if value is None else f'{value:.{decimals}f}'


def _off(here: float, published: float | None) -> str:
    if published is None:
        return '-'
    # Adding zero makes a rounded -0.0 positive.
    return f'{round(100 * (here / published - 1), 1) + 0:+.1f} %'
