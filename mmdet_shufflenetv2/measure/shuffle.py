"""Channel split, concatenation and shuffle: what our way of them gains.

The plain way is that of public implementations: chunk, concatenate, view,
transpose, copy, view.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..backbones.shufflenet_v2 import ShuffleUnit
from .benchmark import Benchmark, Row, Time
from .networks import Inputs, place, settle_norms
from .setting import Setting
from .timing import TIMED, Effort, compared, ratio_names

HELP = 'channel split, concatenation and shuffle against the plain way'
EXAMPLE = '--part network stage3 --batch 1'
THREADS, MODE = None, None
EFFORT = Effort(min_runs=10, max_runs=60, seconds=8, warmup_seconds=4)
COLUMNS = (
    'part',
    'input',
    'batch',
    'passes',
    *TIMED,
    *ratio_names('times_faster'),
    'plain_ms',
)

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


def _measure(
    time: Time,
    part: str,
    size: tuple[int, int],
    batch: int,
    passes: str,
    setting: Setting,
) -> list[Row]:
    ours, shape = _build(part, size, batch, setting)
    plain = with_plain_units(_build(part, size, batch, setting)[0])
    times = time(
        {
            'plain': _pass(place(plain, setting), shape, passes, setting),
            'ours': _pass(place(ours, setting), shape, passes, setting),
        }
    )
    return [
        {
            **times['ours'].columns(),
            **compared('times_faster', times['plain'], times['ours']),
            'plain_ms': times['plain'].columns()['median_ms'],
        }
    ]


def benchmarks(
    settings: Sequence[Setting],
    part: Sequence[str] = PARTS,
    batch: Sequence[int] = (8,),
    size: tuple[int, int] = (224, 224),
) -> list[Benchmark]:
    """Each part and pass, our way and the plain one.

    Args:
        settings: to measure each under.
        part: of `PARTS`.
        batch: images.
        size: width and height of the image.
    """
    width, height = size
    return [
        Benchmark(
            key={
                'part': each,
                'input': f'{width}x{height}',
                'batch': images,
                'passes': passes,
            },
            setting=setting,
            measure=partial(
                _measure,
                part=each,
                size=size,
                batch=images,
                passes=passes,
                setting=setting,
            ),
            label=f'{each}, {passes}, batch {images}, {setting.precision}',
        )
        for setting in settings
        for images in batch
        for each in part
        for passes in PASSES
    ]
