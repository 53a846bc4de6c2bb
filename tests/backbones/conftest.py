"""Networks in which every number matters, and their comparison."""

import os
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from torch.nn.modules.batchnorm import _BatchNorm


@pytest.fixture
def randomised():
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


@pytest.fixture
def with_weights_of():
    """Copy the weights of somebody else's network into a backbone.

    By the format that a checkpoint of that network would be recognised as.
    """

    def copy(backbone: nn.Module, theirs: nn.Module) -> nn.Module:
        weights = theirs.state_dict()
        found = next(f for f in backbone.formats if f.recognises(weights))
        renamed = {
            found.to_ours(k): v
            for k, v in weights.items()
            if not found.is_classifier(k)
        }
        renamed.pop(None, None)
        backbone.load_state_dict(renamed, strict=True)
        return backbone.eval()

    return copy


@pytest.fixture
def assert_same_values():
    """Check maps to be equal within 1e-5 of their largest value."""

    def check(actual, expected) -> None:
        for a, b in zip(actual, expected, strict=True):
            scale = b.abs().max()
            torch.testing.assert_close(a / scale, b / scale, rtol=0, atol=1e-5)

    return check


@pytest.fixture
def saved(tmp_path):
    """Write a checkpoint; gives its path."""

    def save(content, name: str = 'weights.pth'):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def published_file(root) -> Path:
    """ImageNet weights of V2 0.5x by the names of FastestDet."""
    data = os.environ.get(
        'MMDET_SHUFFLENETV2_REAL_DATA', root.parent / 'shared/data'
    )
    path = Path(data).parent / 'weights/shufflenetv2_x0_5_imagenet.pth'
    if not path.is_file():
        pytest.skip(f'needs {path}')
    return path
