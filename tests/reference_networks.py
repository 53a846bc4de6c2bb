"""Networks to compare with: the authors' own, random values, memory.

Those of ShuffleNet-Series are functions of weights under the keys that its
code gives them. They share nothing with the package and are for tests only.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

UNITS = (4, 8, 4)


def conv_bn(weights, x, home, conv=0, stride=1):
    """A convolution and the norm behind it, by their place in ``home``."""
    kernel = weights[f'{home}.{conv}.weight']
    x = F.conv2d(
        x,
        kernel,
        stride=stride,
        padding=kernel.shape[-1] // 2,
        groups=x.shape[1] // kernel.shape[1],
    )
    statistics = ('running_mean', 'running_var', 'weight', 'bias')
    return F.batch_norm(
        x, *(weights[f'{home}.{conv + 1}.{name}'] for name in statistics)
    )


def shufflenet_v2(weights, x) -> list[torch.Tensor]:
    """Three stages and conv5: even channels pass, odd ones are changed."""
    x = F.max_pool2d(conv_bn(weights, x, 'first_conv', 0, 2).relu(), 3, 2, 1)
    levels = []
    for unit in range(sum(UNITS)):
        proj, main = (
            f'features.{unit}.branch_{name}' for name in ('proj', 'main')
        )
        opens = f'{proj}.0.weight' in weights
        if opens:
            levels.append(x)
            passed = conv_bn(weights, x, proj, 0, 2)
            passed = conv_bn(weights, passed, proj, 2).relu()
        else:
            passed, x = x[:, 0::2], x[:, 1::2]
        x = conv_bn(weights, x, main, 0).relu()
        x = conv_bn(weights, x, main, 3, 2 if opens else 1)
        x = conv_bn(weights, x, main, 5).relu()
        x = torch.cat((passed, x), 1)
    # The first one is the stem's.
    return [*levels[1:], x, conv_bn(weights, x, 'conv_last').relu()]


def shufflenet_v1(weights, groups: int, x) -> list[torch.Tensor]:
    """Three stages; a unit's channel i goes to group i modulo ``groups``."""
    x = F.max_pool2d(conv_bn(weights, x, 'first_conv', 0, 2).relu(), 3, 2, 1)
    levels = []
    for unit in range(sum(UNITS)):
        opens = unit in (0, UNITS[0], UNITS[0] + UNITS[1])
        home = f'features.{unit}.branch_main'
        main = conv_bn(weights, x, f'{home}_1', 0).relu()
        main = conv_bn(weights, main, f'{home}_1', 3, 2 if opens else 1)
        dealt = [main[:, group::groups] for group in range(groups)]
        main = conv_bn(weights, torch.cat(dealt, 1), f'{home}_2')
        if opens:
            levels.append(x)
            x = torch.cat((F.avg_pool2d(x, 3, 2, 1), main.relu()), 1)
        else:
            x = (x + main).relu()
    return [*levels[1:], x]


def randomised(model: nn.Module) -> nn.Module:
    """A network with random weights and statistics, in evaluation mode.

    Fresh ones have equal statistics in all channels, which would hide a wrong
    order of channels.
    """
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            for values, low in (
                *((module.weight, 0.5), (module.bias, -0.5)),
                *((module.running_mean, -0.5), (module.running_var, 0.5)),
            ):
                values.data.uniform_(low, low + 1, generator=generator)
        if isinstance(index := getattr(module, 'index', None), torch.Tensor):
            # Which channels a convolution of CondenseNet reads.
            index.random_(len(index), generator=generator)
    # mmpretrain's eval() returns nothing.
    model.eval()
    return model


def assert_same_values(actual, expected) -> None:
    """Check maps to be equal within 1e-5 of their largest value."""
    for a, b in zip(actual, expected, strict=True):
        scale = b.abs().max()
        torch.testing.assert_close(a / scale, b / scale, rtol=0, atol=1e-5)


@contextmanager
def kept_for_backward() -> Iterator[list[torch.Tensor]]:
    """The tensors that autograd keeps of what is computed meanwhile."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        yield kept
