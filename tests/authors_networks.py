"""The networks of ShuffleNet-Series, from their weights alone.

Written as functions of weights under the keys that its code gives them; they
share nothing with the package and are for tests only.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F

V2_CHANNELS = {
    0.5: (24, 48, 96, 192, 1024),
    1.0: (24, 116, 232, 464, 1024),
    2.0: (24, 244, 488, 976, 2048),
}
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


def shufflenet_v2_weights(width: float) -> dict[str, torch.Tensor]:
    """Random weights of a ShuffleNet V2."""
    generator = torch.Generator().manual_seed(0)
    weights = {}

    def add(home, conv, out_channels, in_channels, kernel):
        shape = (out_channels, in_channels, kernel, kernel)
        std = (2 / (in_channels * kernel * kernel)) ** 0.5
        weights[f'{home}.{conv}.weight'] = std * torch.randn(
            shape, generator=generator
        )
        for name, low in (
            ('weight', 0.5),
            ('bias', -0.5),
            ('running_mean', -0.5),
            ('running_var', 0.5),
        ):
            weights[f'{home}.{conv + 1}.{name}'] = low + torch.rand(
                out_channels, generator=generator
            )
        weights[f'{home}.{conv + 1}.num_batches_tracked'] = torch.tensor(7)

    channels = V2_CHANNELS[width]
    add('first_conv', 0, channels[0], 3, 3)
    unit = 0
    for (before, after), count in zip(
        pairwise(channels[:-1]), UNITS, strict=True
    ):
        middle = after // 2
        for index in range(count):
            proj = f'features.{unit}.branch_proj'
            main = f'features.{unit}.branch_main'
            passed = before if index == 0 else middle
            if index == 0:
                add(proj, 0, before, 1, 3)
                add(proj, 2, before, before, 1)
            add(main, 0, middle, passed, 1)
            add(main, 3, middle, 1, 3)
            add(main, 5, after - passed, middle, 1)
            unit += 1
    add('conv_last', 0, channels[4], channels[3], 1)
    weights['classifier.0.weight'] = torch.zeros(1000, channels[4])
    return weights
