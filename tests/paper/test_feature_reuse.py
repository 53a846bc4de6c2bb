import math

import pytest
from mmdet.registry import MODELS
from torchvision.models import DenseNet as TorchvisionDenseNet

from mmdet_shufflenetv2.paper.feature_reuse import (
    dense_weights,
    passed_channels,
)


def shufflenet(**options):
    return MODELS.build(dict(type='ShuffleNetV2', widen_factor=0.5, **options))


@pytest.mark.parametrize(
    'options', [{}, dict(style='authors'), dict(with_residual=True)]
)
def test_half_of_the_channels_pass_each_block(options):
    found = passed_channels(shufflenet(**options))
    units = {'stage2': (4, 48), 'stage3': (8, 96), 'stage4': (4, 192)}
    # The paper's formula, of whole channels.
    assert {(r.part, r.source, r.target): r.value for r in found} == {
        (part, source, target): math.ceil(channels / 2 ** (target - source))
        for part, (count, channels) in units.items()
        for source in range(count)
        for target in range(source + 1, count)
    }
    for reuse in found:
        assert reuse.value == pytest.approx(reuse.expected, abs=1)


def densenet():
    return TorchvisionDenseNet(4, (2, 3), 8, bn_size=2).state_dict()


@pytest.mark.parametrize('older', ['.conv1.', '.conv.1.'])
def test_a_planted_weight_is_found_between_its_layers(older):
    state = densenet()
    weight = state['features.denseblock2.denselayer3.conv1.weight'].fill_(0.1)
    before = weight.shape[1] - 2 * 4
    weight[:, before : before + 4] = -0.4  # What layer 1 has added.
    found = dense_weights(
        {k.replace('.conv1.', older): v for k, v in state.items()}
    )
    values = {
        r.source: (round(r.value, 6), round(r.share, 6))
        for r in found
        if (r.part, r.target) == ('block 2', 3)
    }
    assert values == {0: (0.1, 0.25), 1: (0.4, 1.0), 2: (0.1, 0.25)}
    pairs = {(r.part, r.source, r.target) for r in found}
    assert len(pairs) == len(found) == (1 + 2) + (1 + 2 + 3)
