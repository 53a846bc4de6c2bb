"""Channel split, concatenation and shuffle against the usual implementation.

Public implementations do it the plain way: chunk, concatenate, view,
transpose, copy, view.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..backbones.shufflenet_v2 import ShuffleUnit
from .benchmark import COUNTS, SIZE, Benchmark, Row, Time, size_text
from .networks import PASSES, maps_in_turn, place, settle_norms, with_backward
from .setting import Setting
from .timing import Effort, timed, timed_columns

HELP = 'channel split and shuffle against the usual implementation'
EXAMPLE = '--part network stage3 --batch 1'
THREADS, MODE = None, None
EFFORT = Effort(min_runs=10, max_runs=60, seconds=8, warmup_seconds=4)
COLUMNS = (
    *('part', 'input', 'batch', 'passes'),
    *timed_columns('times_faster'),
    'plain_ms',
)
# Channels of the input in ShuffleNet V2 1x, and its stride.
PARTS = {
    'network': (3, 1),
    'stage2': (116, 8),
    'stage3': (232, 16),
    'stage4': (464, 32),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select parts and their input."""
    add = parser.add_argument
    parts = list(PARTS)
    add('--part', nargs='+', choices=parts, default=parts, help='default: all')
    add('--batch', **COUNTS, default=[8], help='default: 8')
    text = 'image size; default: 224x224'
    add('--size', **SIZE, default=(224, 224), help=text)


def benchmarks(
    settings: Sequence[Setting], args: argparse.Namespace
) -> list[Benchmark]:
    """Each part and pass, this package's way against the plain one."""
    return [
        Benchmark(
            dict(
                part=part,
                input=size_text(args.size),
                batch=batch,
                passes=passes,
            ),
            setting,
            partial(_measure, setting, args.size, batch, part, passes),
        )
        for setting, batch, part, passes in product(
            settings, args.batch, args.part, PASSES
        )
    ]


def _measure(
    setting: Setting,
    size: tuple[int, int],
    batch: int,
    part: str,
    passes: str,
    time: Time,
) -> list[Row]:
    (width, height), (channels, stride) = size, PARTS[part]
    shape = batch, channels, height // stride, width // stride

    def competitor(network: nn.Module) -> Callable[[], object]:
        module = network.to(setting.device)
        settle_norms(module, torch.randn(8, 3, 64, 64, device=setting.device))
        if part != 'network':
            # Skip the first unit, which changes size and channels.
            module = nn.Sequential(*list(getattr(module, part))[1:])
        inputs, module = maps_in_turn(shape, setting), place(module, setting)
        if passes == PASSES[0]:
            module.eval()
            return torch.inference_mode()(lambda: module(inputs()))

        def run() -> Tensor:
            # Inside a network, a unit also needs the gradient of its input.
            output = module(inputs().detach().requires_grad_(channels > 3))
            return output[-1] if isinstance(output, tuple) else output

        return with_backward(run, module.parameters())

    plain, ours = time(
        {
            'plain': competitor(with_plain_units(build_network())),
            'ours': competitor(build_network()),
        }
    ).values()
    row = timed(ours, 'times_faster', plain, ours)
    return [{**row, 'plain_ms': plain.median_ms}]


def build_network() -> nn.Module:
    """Build ShuffleNet V2 1x with seeded random weights."""
    torch.manual_seed(0)
    return MODELS.build(dict(type='ShuffleNetV2', widen_factor=1.0))


class PlainShuffleUnit(ShuffleUnit):
    """A `ShuffleUnit` implemented the plain way."""

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
    """Replace the units of a network by plain ones, in place."""
    for module in network.modules():
        if isinstance(module, ShuffleUnit):
            module.__class__ = PlainShuffleUnit
    return network
