"""PSRoI ops against torchvision's compiled ones.

``copy_ms`` in a row is the time to copy the map once. About half of it is a
lower bound for pooling a whole map, which must at least be read.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor

from ..ops import ps_roi_align, ps_roi_pool
from .benchmark import Benchmark, Row, Time, joined
from .networks import PASSES, with_backward
from .setting import LAYOUTS, Setting
from .timing import Effort, timed, timed_columns

HELP = "PSRoI ops against torchvision's"
EXAMPLE = '--case test_800x1200 --op ps_roi_align'
THREADS, MODE = None, None
EFFORT = Effort(min_runs=10, max_runs=60, seconds=8, warmup_seconds=4)
COLUMNS = (
    *('op', 'case', 'map', 'rois', 'map_layout', 'passes'),
    *timed_columns('times_faster'),
    *('torchvision_ms', 'copy_ms', 'torchvision'),
)
BINS = 7


class Case(NamedTuple):
    """Shape of a map (N, C, H, W), its stride in pixels, number of RoIs."""

    shape: tuple[int, int, int, int]
    stride: int
    rois: int


CASES = {
    # Testing on 1200x800 images with 300 proposals each.
    'test_800x1200': Case((4, 490, 50, 75), 16, 1200),
    # Training on 480x360 images; the thin map has stride 32 or 16.
    'train_480x360_s32': Case((8, 490, 12, 15), 32, 3000),
    'train_480x360_s16': Case((8, 490, 23, 30), 16, 3000),
}
_ALIGN = ps_roi_align, torchvision.ops.ps_roi_align
# (ours, torchvision's, positional arguments after the scale)
OPS = {
    'ps_roi_align': (*_ALIGN, (2,)),
    'ps_roi_align_adaptive': (*_ALIGN, (-1,)),
    'ps_roi_pool': (ps_roi_pool, torchvision.ops.ps_roi_pool, ()),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select maps and ops."""
    add = partial(parser.add_argument, nargs='+')
    add('--case', choices=CASES, default=list(CASES), help='default: all')
    add('--op', choices=OPS, default=list(OPS), help='default: all')


def benchmarks(
    settings: Sequence[Setting], args: argparse.Namespace
) -> list[Benchmark]:
    """Each op on each map, contiguous unless ``--layout`` says otherwise."""
    placed = [
        replace(each, layout=args.layout or 'contiguous') for each in settings
    ]
    return [
        Benchmark(
            {'op': op, 'case': case, 'map_layout': 'as torchvision'},
            setting,
            partial(_measure, op, case, setting),
        )
        for setting, case, op in product(placed, args.case, args.op)
    ]


def _measure(op: str, case: str, setting: Setting, time: Time) -> list[Row]:
    (shape, stride, num_rois), (ours, theirs, extra) = CASES[case], OPS[op]
    generator = torch.Generator().manual_seed(1)
    ps_map = torch.randn(shape, generator=generator)
    ps_map = ps_map.to(setting.device, setting.dtype)
    rois = random_rois(CASES[case]).to(setting.device, setting.dtype)
    args = (rois, BINS, 1 / stride, *extra)
    warning = ''
    try:
        theirs(ps_map, *args)
    except RuntimeError:
        theirs = partial(_through_float32, theirs)
        warning = (
            f"torchvision's has no {setting.precision} and goes through fp32"
        )
    our_map = ps_map.to(memory_format=LAYOUTS[setting.layout])
    runs = {'copy': ps_map.clone}
    for pool, x in (theirs, ps_map), (ours, our_map):
        leaf = x.clone().requires_grad_()
        run = partial(pool, leaf, *args)
        runs[pool, PASSES[0]] = torch.no_grad()(run)
        runs[pool, PASSES[1]] = with_backward(run, [leaf])
    times = time(runs)
    rows = []
    for passes in PASSES:
        mine, other = times[ours, passes], times[theirs, passes]
        row = timed(mine, 'times_faster', other, mine)
        row['warning'] = joined(warning, row['warning'])
        row |= {
            'map': 'x'.join(map(str, shape)),
            'rois': num_rois,
            'passes': passes,
            'torchvision_ms': other.median_ms,
            'copy_ms': times['copy'].median_ms,
            'torchvision': torchvision.__version__,
        }
        rows.append(row)
    return rows


def random_rois(case: Case) -> Tensor:
    """Random RoIs that resemble proposals: 16 to 512 pixels, 1:2 to 2:1.

    Sides are log-uniform, centres uniform. Boxes are clipped to the image and
    distributed evenly over the images.
    """
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(case.rois, 4, generator=generator)
    side = 16 * torch.exp(uniform[:, 0] * math.log(512 / 16))
    stretch = 2 ** (uniform[:, 1] - 0.5)
    half = torch.stack([side * stretch, side / stretch], dim=1) / 2
    images, _, height, width = case.shape
    size = torch.tensor([width, height]) * float(case.stride)
    centre = uniform[:, 2:] * size
    low = (centre - half).clamp(min=0)
    high = (centre + half).minimum(size)
    image = torch.arange(case.rois) * images // case.rois
    return torch.cat([image[:, None].float(), low, high], dim=1)


def _through_float32(
    pool: Callable[..., Tensor], leaf: Tensor, rois: Tensor, *args: object
) -> Tensor:
    """Run an op in fp32 for a type without a kernel, as autocast does."""
    return pool(leaf.float(), rois.float(), *args).to(leaf.dtype)
