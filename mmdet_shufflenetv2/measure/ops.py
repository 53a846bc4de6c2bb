"""PSRoI ops against torchvision's compiled ones.

``copy_ms`` in a row is the time to copy the map once. Nothing can pool all
of a map in less than about half of it, for the map must at least be read.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor

from ..ops import ps_roi_align, ps_roi_pool
from .command import Command, effort, settings
from .session import Case as Measurement
from .session import Row
from .setting import Setting
from .timing import TIMED, Effort, compared, interleave, ratio_names

BINS = 7
LAYOUTS = {
    'as torchvision': 'ours',
    'bin-major channels-last': 'bin-major',
}
PASSES = {'forward': 'forward', 'forward and backward': 'both'}


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


def _competitors(
    case: Case, op: str, device: str
) -> dict[str, Callable[[], object]]:
    """Return (who, pass) functions over one map and one set of RoIs."""
    ours, theirs, extra = OPS[op]
    rois = random_rois(case).to(device)
    generator = torch.Generator().manual_seed(1)
    shape = (case.images, case.channels, case.height, case.width)
    ps_map = torch.randn(shape, generator=generator).to(device)
    leaf = ps_map.clone().requires_grad_()
    last = ps_map.contiguous(memory_format=torch.channels_last)
    last_leaf = last.clone().requires_grad_()
    args = (rois, BINS, 1 / case.stride, *extra)
    grad = torch.ones_like(theirs(ps_map, *args))

    def both(pool, leaf):
        leaf.grad = None
        pool(leaf).backward(grad)

    def torchvision_pool(m):
        return theirs(m, *args)

    def our_pool(m):
        return ours(m, *args)

    def bin_major_pool(m):
        return ours(m, *args, bin_major=True)

    return {
        'copy': ps_map.clone,
        'torchvision forward': lambda: torchvision_pool(ps_map),
        'ours forward': lambda: our_pool(ps_map),
        'bin-major forward': lambda: bin_major_pool(last),
        'torchvision both': lambda: both(torchvision_pool, leaf),
        'ours both': lambda: both(our_pool, leaf),
        'bin-major both': lambda: both(bin_major_pool, last_leaf),
    }


def measure(
    case_name: str, op: str, setting: Setting, effort: Effort
) -> list[Row]:
    """Time one op on one case; return one record per layout and pass."""
    case = CASES[case_name]
    times = interleave(
        _competitors(case, op, setting.device), setting.stopwatch(), effort
    )
    rows = []
    for layout, who in LAYOUTS.items():
        for passes, key in PASSES.items():
            ours, theirs = times[f'{who} {key}'], times[f'torchvision {key}']
            rows.append(
                {
                    'map': 'x'.join(map(str, case[:4])),
                    'rois': case.rois,
                    'map_layout': layout,
                    'passes': passes,
                    **ours.columns(),
                    **compared('times_faster', theirs, ours),
                    'torchvision_ms': theirs.columns()['median_ms'],
                    'copy_ms': times['copy'].columns()['median_ms'],
                    'torchvision': torchvision.__version__,
                }
            )
    return rows


def cases(args: argparse.Namespace) -> list[Measurement]:
    """One case for each map and op."""
    return [
        Measurement(
            key={'op': op, 'case': case},
            setting=setting,
            measure=partial(measure, case, op, setting, effort(args)),
            label=f'{op}, {case}',
        )
        for setting in settings(args)
        for case in args.case
        for op in args.op
    ]


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
    effort=Effort(min_runs=10, max_runs=60, seconds=15, warmup_seconds=5),
)
