"""Networks in which every number matters."""

from collections.abc import Callable

import pytest
import torch
import torch.nn as nn
from torch.nn.modules.batchnorm import _BatchNorm


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Give a network's weights and BN statistics random values.

    Fresh networks have equal statistics in all channels, which would hide a
    wrong order of channels.
    """

    def randomise(model: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(0)

        def uniform(tensor, low, high):
            tensor.data.uniform_(low, high, generator=generator)

        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, generator=generator)
            elif isinstance(module, _BatchNorm):
                uniform(module.weight, 0.5, 1.5)
                uniform(module.bias, -0.5, 0.5)
                uniform(module.running_mean, -0.5, 0.5)
                uniform(module.running_var, 0.5, 1.5)
        # mmpretrain's eval() returns nothing.
        model.eval()
        return model

    return randomise
