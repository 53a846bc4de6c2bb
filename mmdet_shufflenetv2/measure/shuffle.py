"""Channel split, concatenation and shuffle: what our way of them gains.

The plain way is that of public implementations: chunk, concatenate, view,
transpose, copy, view.
"""

import argparse
from collections.abc import Callable, Sequence
from itertools import product

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..backbones.shufflenet_v2 import ShuffleUnit
from .benchmark import COUNTS, SIZE, Benchmark, Row, Time
from .networks import Inputs, place, settle_norms
from .setting import Setting
from .timing import Effort, timed, timed_columns

HELP = 'channel split, concatenation and shuffle against the plain way'
EXAMPLE = '--part network stage3 --batch 1'
THREADS, MODE = None, None
EFFORT = Effort(min_runs=10, max_runs=60, seconds=8, warmup_seconds=4)
COLUMNS = (
    *('part', 'input', 'batch', 'passes'),
    *timed_columns('times_faster'),
    'plain_ms',
)
PASSES = ('forward', 'forward and backward')
# Channels of ShuffleNet V2 1x, and pixels of a map per pixel of the image.
STAGES = {'stage2': (116, 8), 'stage3': (232, 16), 'stage4': (464, 32)}
PARTS = ('network', *STAGES)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add which parts to measure, and on what."""
    add = parser.add_argument
    add('--part', nargs='+', choices=PARTS, default=PARTS)
    add('--batch', **COUNTS, default=[8], help='default: 8')
    text = 'of the image; default: 224x224'
    add('--size', **SIZE, default=(224, 224), help=text)


def benchmarks(
    settings: Sequence[Setting], args: argparse.Namespace
) -> list[Benchmark]:
    """Each part and pass, our way and the plain one."""
    return [
        _benchmark(setting, batch, part, passes, args.size)
        for setting, batch, part, passes in product(
            settings, args.batch, args.part, PASSES
        )
    ]


def _benchmark(
    setting: Setting,
    batch: int,
    part: str,
    passes: str,
    size: tuple[int, int],
) -> Benchmark:
    def measure(time: Time) -> list[Row]:
        ours, shape = _build(part, size, batch, setting)
        plain = with_plain_units(_build(part, size, batch, setting)[0])
        runs = {
            who: _pass(place(each, setting), shape, passes, setting)
            for who, each in (('plain', plain), ('ours', ours))
        }
        plain, ours = time(runs).values()
        columns = timed(ours, 'times_faster', plain, ours)
        return [{**columns, 'plain_ms': plain.median_ms}]

    key = dict(part=part, input='{}x{}'.format(*size))
    key |= dict(batch=batch, passes=passes)
    return Benchmark(key, setting, measure)


def build_network() -> nn.Module:
    """The network whose units are exchanged: ShuffleNet V2 1x."""
    return MODELS.build(dict(type='ShuffleNetV2', widen_factor=1.0))


def _build(
    part: str, size: tuple[int, int], batch: int, setting: Setting
) -> tuple[nn.Module, tuple[int, int, int, int]]:
    """A part of the network, the same each time, and its input's shape."""
    torch.manual_seed(0)
    network = build_network().to(setting.device)
    settle_norms(network, torch.randn(8, 3, 64, 64, device=setting.device))
    width, height = size
    if part == 'network':
        return network, (batch, 3, height, width)
    channels, stride = STAGES[part]
    # All units but the first, which changes size and channels.
    units = list(getattr(network, part))[1:]
    shape = batch, channels, height // stride, width // stride
    return nn.Sequential(*units), shape


class PlainShuffleUnit(ShuffleUnit):
    """The same unit, written the plain way."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        if self.downsample:
            passed = self.branch1(x)
        else:
            passed, x = x.chunk(2, dim=1)
        out = torch.cat((passed, self.activate(self.branch2(x))), dim=1)
        n, c, h, w = out.shape
        out = out.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous()
        return out.view(n, c, h, w)


def with_plain_units(network: nn.Module) -> nn.Module:
    """Exchange the units of a network for plain ones, in place."""
    for module in network.modules():
        if isinstance(module, ShuffleUnit):
            module.__class__ = PlainShuffleUnit
    return network


def _pass(
    module: nn.Module, shape: tuple[int, ...], passes: str, setting: Setting
) -> Callable[[], object]:
    inputs = Inputs(shape, setting)
    if passes == PASSES[0]:
        module.eval()
        return torch.inference_mode()(lambda: module(inputs()))
    module.train()

    def run() -> Tensor:
        # In a network, a unit's input needs its gradient too.
        output = module(inputs().detach().requires_grad_(shape[1] > 3))
        return output[-1] if isinstance(output, tuple) else output

    gradient = torch.randn_like(run())

    def both() -> None:
        run().backward(gradient)
        module.zero_grad()

    return both
