"""PSRoI ops against torchvision's compiled ones.

``copy_ms`` in a row is the time to copy the map once. Nothing can pool all
of a map in less than about half of it, for the map must at least be read.
"""

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
from .setting import LAYOUTS as MEMORY
from .setting import Setting
from .timing import TIMED, Effort, compared, ratio_names

HELP = "PSRoI ops against torchvision's"
EXAMPLE = '--case test_800x1200 --op ps_roi_align'
THREADS, MODE = None, None
EFFORT = Effort(min_runs=10, max_runs=60, seconds=8, warmup_seconds=4)
COLUMNS = (
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
)

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


def _passes(
    who: str,
    pool: Callable[..., Tensor],
    ps_map: Tensor,
    rois: Tensor,
    *args: object,
) -> dict[str, Callable[[], object]]:
    """An op over a map, its forward pass alone and both."""
    leaf = ps_map.clone().requires_grad_()
    grad = torch.ones_like(pool(leaf, rois, *args))

    def forward() -> None:
        with torch.no_grad():
            pool(leaf, rois, *args)

    def both() -> None:
        leaf.grad = None
        pool(leaf, rois, *args).backward(grad)

    names = (f'{who} {passes}' for passes in PASSES)
    return dict(zip(names, (forward, both), strict=True))


def _through_float32(pool: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An op for a type that it has no kernel for, as autocast runs it."""

    def pool_wide(leaf: Tensor, rois: Tensor, *args: object) -> Tensor:
        return pool(leaf.float(), rois.float(), *args).to(leaf.dtype)

    return pool_wide


def _measure(
    time: Time, case: str, op: str, map_layout: str, setting: Setting
) -> list[Row]:
    """A row for each pass."""
    what = CASES[case]
    ours, theirs, extra = OPS[op]
    shape = (what.images, what.channels, what.height, what.width)
    generator = torch.Generator().manual_seed(1)
    ps_map = torch.randn(shape, generator=generator)
    ps_map = ps_map.to(setting.device, setting.dtype)
    rois = random_rois(what).to(setting.device, setting.dtype)
    args = (rois, BINS, 1 / what.stride, *extra)
    warning = ''
    try:
        theirs(ps_map, *args)
    except RuntimeError:
        theirs = _through_float32(theirs)
        warning = (
            f"torchvision's has no {setting.precision} and goes through fp32"
        )
    if map_layout == BIN_MAJOR:
        ours = partial(ours, bin_major=True)
    # What the row says of the layout is what is timed.
    mine = ps_map.to(memory_format=MEMORY[setting.layout])
    times = time(
        {
            'copy': ps_map.clone,
            **_passes('theirs', theirs, ps_map, *args),
            **_passes('ours', ours, mine, *args),
        }
    )
    rows = []
    for passes in PASSES:
        mine, other = times[f'ours {passes}'], times[f'theirs {passes}']
        ratio = compared('times_faster', other, mine)
        rows.append(
            {
                'map': 'x'.join(map(str, shape)),
                'rois': what.rois,
                'passes': passes,
                **mine.columns(),
                **ratio,
                'warning': joined(warning, ratio['warning']),
                'torchvision_ms': other.columns()['median_ms'],
                'copy_ms': times['copy'].columns()['median_ms'],
                'torchvision': torchvision.__version__,
            }
        )
    return rows


def benchmarks(
    settings: Sequence[Setting],
    case: Sequence[str] = tuple(CASES),
    op: Sequence[str] = tuple(OPS),
    layout: str | None = None,
) -> list[Benchmark]:
    """Each map and op, in both layouts of the map.

    Args:
        settings: to measure each under, but for their layout.
        case: of `CASES`.
        op: of `OPS`.
        layout: of maps in memory, if only one is wanted.
    """
    found = []
    for setting, what, each in product(settings, case, op):
        for map_layout, memory in LAYOUTS.items():
            if layout in (None, memory):
                placed = replace(setting, layout=memory)
                options = {'op': each, 'case': what, 'map_layout': map_layout}
                found.append(
                    Benchmark(
                        options,
                        placed,
                        partial(_measure, **options, setting=placed),
                        label=f'{each}, {what}, {map_layout}',
                    )
                )
    return found
