import pytest
import torch
from mmengine.config import Config

from mmdet_shufflenetv2.analysis import openmmlab
from mmdet_shufflenetv2.analysis.openmmlab import (
    features,
    load,
    random_image,
    run,
    settle,
)
from mmdet_shufflenetv2.errors import UserError

IMAGE = random_image(1, (64, 64))


@pytest.mark.parametrize(
    'name, options, levels',
    [
        ('shufflenet_v2_x0_5', {}, ['stage2', 'stage3', 'stage4', 'conv5']),
        ('mmpretrain.ShuffleNetV2', dict(widen_factor=0.5), ['level 0']),
    ],
)
def test_networks_are_named_and_show_their_levels(name, options, levels):
    if 'mmpretrain' in name:
        pytest.importorskip('mmpretrain')
    model, size = load(name, options)
    with torch.no_grad():
        run(model, (IMAGE,))
        assert list(features(model, IMAGE)) == levels
    assert size == (224, 224)
    assert not model.training


@pytest.mark.parametrize(
    'target, options, message',
    [
        ('shufflenet_v2_1_0', {}, 'shufflenet_v2_x1_0'),
        ('torchvision.models:resnet18', {}, 'x1_0; from Python, .*analyze'),
        ('ResNet', {}, 'ResNet cannot be built: .*nowhere_to_be_found'),
    ],
)
def test_wrong_requests_are_one_line_errors(
    monkeypatch, target, options, message
):
    def build(cfg):
        raise ModuleNotFoundError("No module named 'nowhere_to_be_found'\n")

    monkeypatch.setattr(openmmlab.MODELS, 'build', build)
    with pytest.raises(UserError, match=message) as caught:
        load(target, **options)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'transforms, size',
    [
        ([dict(type='Resize', scale=(1333, 800))], (800, 1344)),
        ([dict(type='CenterCrop', crop_size=192)], (192, 192)),
        ([], (224, 224)),
    ],
)
def test_size_is_that_of_the_configs_test_images(transforms, size):
    pipeline = dict(dataset=dict(pipeline=transforms))
    assert openmmlab.test_size(Config(dict(test_dataloader=pipeline))) == size


def test_maps_of_random_weights_get_the_magnitude_of_trained_ones():
    model, _ = load('ResNet', dict(depth=18, norm_eval=True))
    model.init_weights()
    last_of_a_branch = model.layer1[0].norm2
    assert not last_of_a_branch.weight.any()
    settle(model, (64, 64))
    with torch.no_grad():
        sizes = [m.std() for m in features(model, IMAGE).values()]
    assert all(0.1 < size < 10 for size in sizes)
    assert not any(m.training for m in model.modules())
    # As in a trained network, the residual branch has something to add.
    assert last_of_a_branch.weight.all()
