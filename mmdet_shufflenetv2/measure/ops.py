"""PSRoI ops against torchvision's compiled ones.

``copy_ms`` in a row is the time to copy the map once. Nothing can pool all
of a map in less than about half of it, for the map must at least be read.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor

from ..ops import ps_roi_align, ps_roi_pool
from .command import Command, effort, settings
from .session import Case as Measurement
from .session import Row
from .setting import LAYOUTS as MEMORY
from .setting import Setting
from .timing import TIMED, Effort, compared, interleave, ratio_names

BINS = 7
BIN_MAJOR = 'bin-major channels-last'
# How our op takes a map, and the layout that such a map has in memory.
LAYOUTS = {'as torchvision': 'contiguous', BIN_MAJOR: 'channels_last'}
PASSES = ('forward', 'forward and backward')


class Case(NamedTuple):
    """A map ``(images, channels, height, width)``, its stride, its RoIs."""

    images: int
    channels: int
    height: int
    width: int
    stride: int
    rois: int


CASES = {
    # Test time at 800 x 1200 pixels, 300 proposals per image.
    'test_800x1200': Case(4, 490, 50, 75, 16, 1200),
    # Training at 480 x 360 pixels; the thin map at stride 32 and 16.
    'train_480x360_s32': Case(8, 490, 12, 15, 32, 3000),
    'train_480x360_s16': Case(8, 490, 23, 30, 16, 3000),
}

# (ours, torchvision's, positional arguments after the scale)
OPS = {
    'ps_roi_align': (ps_roi_align, torchvision.ops.ps_roi_align, (2,)),
    'ps_roi_align_adaptive': (
        ps_roi_align,
        torchvision.ops.ps_roi_align,
        (-1,),
    ),
    'ps_roi_pool': (ps_roi_pool, torchvision.ops.ps_roi_pool, ()),
}


def random_rois(case: Case, seed: int = 0) -> Tensor:
    """Return RoIs as proposals are: 16 to 512 pixels, ratios 1:2 to 2:1.

    Sides are log-uniform, centres uniform, boxes clipped to the image, and
    as many in every image.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(case.rois, 4, generator=generator)
    side = 16 * torch.exp(uniform[:, 0] * math.log(512 / 16))
    stretch = 2 ** (uniform[:, 1] - 0.5)
    half = torch.stack([side * stretch, side / stretch], dim=1) / 2
    size = torch.tensor([case.width, case.height]) * float(case.stride)
    centre = uniform[:, 2:] * size
    low = (centre - half).clamp(min=0)
    high = (centre + half).minimum(size)
    image = torch.arange(case.rois) * case.images // case.rois
    return torch.cat([image[:, None].float(), low, high], dim=1)


def _pooling(
    pool: Callable[..., Tensor], leaf: Tensor, rois: Tensor, *args: object
) -> dict[str, Callable[[], object]]:
    """One op over one map: its passes."""
    grad = torch.ones_like(pool(leaf, rois, *args))

    def forward() -> None:
        with torch.no_grad():
            pool(leaf, rois, *args)

    def both() -> None:
        leaf.grad = None
        pool(leaf, rois, *args).backward(grad)

    return dict(zip(PASSES, (forward, both), strict=True))


def _through_float32(pool: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An op for a type that it has no kernel for, as autocast runs it."""

    def pool_wide(leaf: Tensor, rois: Tensor, *args: object) -> Tensor:
        return pool(leaf.float(), rois.float(), *args).to(leaf.dtype)

    return pool_wide


def measure(
    case_name: str, op: str, map_layout: str, setting: Setting, effort: Effort
) -> list[Row]:
    """Time one op on one map; return one record for each pass."""
    case = CASES[case_name]
    ours, theirs, extra = OPS[op]
    device, dtype = setting.device, setting.dtype
    generator = torch.Generator().manual_seed(1)
    shape = (case.images, case.channels, case.height, case.width)
    ps_map = torch.randn(shape, generator=generator).to(device, dtype)
    rois = random_rois(case).to(device, dtype)
    args = (rois, BINS, 1 / case.stride, *extra)
    doubt = ''
    try:
        theirs(ps_map, *args)
    except RuntimeError:
        theirs = _through_float32(theirs)
        doubt = f"torchvision's goes through float32, it has no {dtype}"
    if map_layout == BIN_MAJOR:
        ours = partial(ours, bin_major=True)
    mine = ps_map.to(memory_format=MEMORY[setting.layout])
    competitors = {
        'copy': ps_map.clone,
        'theirs': _pooling(theirs, ps_map.clone().requires_grad_(), *args),
        'ours': _pooling(ours, mine.clone().requires_grad_(), *args),
    }
    functions = {'copy': competitors.pop('copy')} | {
        f'{who} {passes}': function
        for who, by_pass in competitors.items()
        for passes, function in by_pass.items()
    }
    times = interleave(functions, setting.stopwatch(), effort)
    rows = []
    for passes in PASSES:
        ours, theirs = times[f'ours {passes}'], times[f'theirs {passes}']
        ratio = compared('times_faster', theirs, ours)
        ratio['doubt'] = ', '.join(filter(None, (doubt, ratio['doubt'])))
        rows.append(
            {
                'map': 'x'.join(map(str, case[:4])),
                'rois': case.rois,
                'passes': passes,
                **ours.columns(),
                **ratio,
                'torchvision_ms': theirs.columns()['median_ms'],
                'copy_ms': times['copy'].columns()['median_ms'],
                'torchvision': torchvision.__version__,
            }
        )
    return rows


def cases(args: argparse.Namespace) -> list[Measurement]:
    """One case for each map, op and layout of the map."""
    found = []
    for setting in settings(args):
        for case in args.case:
            for op in args.op:
                for name, layout in LAYOUTS.items():
                    if args.layout not in (None, layout):
                        continue
                    # What the row says of the layout is what is timed.
                    placed = replace(setting, layout=layout)
                    found.append(
                        Measurement(
                            key={'op': op, 'case': case, 'map_layout': name},
                            setting=placed,
                            measure=partial(
                                measure, case, op, name, placed, effort(args)
                            ),
                            label=f'{op}, {case}, {name}',
                        )
                    )
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--case', nargs='+', choices=CASES, default=CASES)
    parser.add_argument('--op', nargs='+', choices=OPS, default=OPS)


COMMAND = Command(
    name='ops',
    help="PSRoI ops against torchvision's",
    example='--case test_800x1200 --op ps_roi_align',
    columns=(
        'op',
        'case',
        'map',
        'rois',
        'map_layout',
        'passes',
        *TIMED,
        *ratio_names('times_faster'),
        'torchvision_ms',
        'copy_ms',
        'torchvision',
    ),
    shown={
        'op': 'op',
        'case': 'case',
        'layout': 'map_layout',
        'passes': 'passes',
        'torchvision ms': 'torchvision_ms',
        'ours ms': 'median_ms',
        'times faster': 'times_faster',
        'p10': 'times_faster_p10',
        'p90': 'times_faster_p90',
        'copy ms': 'copy_ms',
        'doubt': 'doubt',
    },
    cases=cases,
    add_arguments=add_arguments,
    effort=Effort(min_runs=10, max_runs=60, seconds=8, warmup_seconds=4),
)
