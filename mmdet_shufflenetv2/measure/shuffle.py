"""Channel split, concatenation and shuffle: what our way of them saves.

The plain way is that of public implementations: chunk, concatenate, view,
transpose, copy, view.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..backbones.shufflenet_v2 import ShuffleUnit
from ..engine.argument_types import image_size, positive_int
from .command import Command, effort, settings
from .networks import Inputs, place, settle_norms
from .session import Case, Row
from .setting import Setting
from .timing import TIMED, Effort, compared, interleave, ratio_names

PASSES = ('forward', 'forward and backward')
# Channels of ShuffleNet V2 1x, and pixels of a map per pixel of the image.
STAGES = {'stage2': (116, 8), 'stage3': (232, 16), 'stage4': (464, 32)}
PARTS = ('network', *STAGES)


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


def build_network() -> nn.Module:
    """The network whose units are exchanged: ShuffleNet V2 1x."""
    return MODELS.build(dict(type='ShuffleNetV2', widen_factor=1.0))


def _pass(
    module: nn.Module,
    shape: tuple[int, ...],
    passes: str,
    setting: Setting,
) -> Callable[[], object]:
    inputs = Inputs(shape, setting)
    if passes == PASSES[0]:
        module.eval()

        def forward() -> object:
            with torch.inference_mode():
                return module(inputs())

        return forward
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


def _measure(
    part: str,
    size: tuple[int, int],
    batch: int,
    passes: str,
    setting: Setting,
    effort: Effort,
) -> list[Row]:
    def build() -> tuple[nn.Module, tuple[int, ...]]:
        network = build_network().to(setting.device)
        settle_norms(network, torch.randn(8, 3, 64, 64, device=setting.device))
        width, height = size
        if part == 'network':
            return network, (batch, 3, height, width)
        channels, stride = STAGES[part]
        # All units but the first, which changes size and channels.
        units = list(getattr(network, part))[1:]
        return nn.Sequential(*units), (
            batch,
            channels,
            height // stride,
            width // stride,
        )

    ours, shape = build()
    plain = with_plain_units(build()[0])
    times = interleave(
        {
            'plain': _pass(place(plain, setting), shape, passes, setting),
            'ours': _pass(place(ours, setting), shape, passes, setting),
        },
        setting.stopwatch(),
        effort,
    )
    return [
        {
            **times['ours'].columns(),
            **compared('times_faster', times['plain'], times['ours']),
            'plain_ms': times['plain'].columns()['median_ms'],
        }
    ]


def cases(args: argparse.Namespace) -> list[Case]:
    """One case for each part and pass."""
    width, height = args.size
    return [
        Case(
            key={
                'part': part,
                'input': f'{width}x{height}',
                'batch': batch,
                'passes': passes,
            },
            setting=setting,
            measure=partial(
                _measure,
                part,
                args.size,
                batch,
                passes,
                setting,
                effort(args),
            ),
            label=f'{part}, {passes}, batch {batch}, {setting.precision}',
        )
        for setting in settings(args)
        for batch in args.batch
        for part in args.part
        for passes in PASSES
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--part', nargs='+', choices=PARTS, default=PARTS)
    parser.add_argument(
        '--batch', nargs='+', type=positive_int, default=[8], help='default: 8'
    )
    parser.add_argument(
        '--size',
        type=image_size,
        default=(224, 224),
        metavar='WIDTHxHEIGHT',
        help='of the image; default: 224x224',
    )


COMMAND = Command(
    name='shuffle',
    help='channel split, concatenation and shuffle against the plain way',
    example='--part network stage3 --batch 1',
    columns=(
        'part',
        'input',
        'batch',
        'passes',
        *TIMED,
        *ratio_names('times_faster'),
        'plain_ms',
    ),
    shown={
        'part': 'part',
        'passes': 'passes',
        'batch': 'batch',
        'layout': 'layout',
        'precision': 'precision',
        'plain ms': 'plain_ms',
        'ours ms': 'median_ms',
        'times faster': 'times_faster',
        'p10': 'times_faster_p10',
        'p90': 'times_faster_p90',
        'doubt': 'doubt',
    },
    cases=cases,
    add_arguments=add_arguments,
    effort=Effort(min_runs=10, max_runs=60, seconds=8, warmup_seconds=4),
)
