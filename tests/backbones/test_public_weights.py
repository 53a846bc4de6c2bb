"""Public weights without a network, and whether a run's images fit them."""

import http.server
import threading
from functools import partial
from urllib.error import URLError

import cv2
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.runner.checkpoint import get_torchvision_models
from torchvision.models import shufflenet_v2_x0_5

from mmdet_shufflenetv2.backbones import ShuffleNetV2, public_weights
from mmdet_shufflenetv2.backbones.input_fit import CANDIDATES, input_fit
from mmdet_shufflenetv2.backbones.public_weights import (
    PUBLIC_WEIGHTS,
    RESNETS,
    fetch_weights,
)
from mmdet_shufflenetv2.backbones.zoo import NETWORKS
from mmdet_shufflenetv2.compat.input_format import (
    NORMALISED_RGB,
    RAW_BGR,
    SCALED_BGR,
    SCALED_RGB,
)
from mmdet_shufflenetv2.errors import UserError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch hub."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    folder = tmp_path / 'hub/checkpoints'
    folder.mkdir(parents=True)
    return folder


def test_every_address_is_one_that_mmengine_knows():
    known = get_torchvision_models()
    for url in (*PUBLIC_WEIGHTS.values(), *RESNETS.values()):
        scheme, _, name = url.partition('://')
        assert scheme == 'https' or known[name].startswith('https://')
    assert set(PUBLIC_WEIGHTS) <= set(NETWORKS)


@pytest.mark.parametrize('receptive_field', ['standard', 'enlarged'])
def test_weights_come_out_of_the_cache(cache, receptive_field):
    backbone = dict(
        type='ShuffleNetV2',
        widen_factor=0.5,
        strides=(2, 2, 1),
        dilations=(1, 1, 2),
    )
    if receptive_field == 'enlarged':
        backbone['receptive_field'] = receptive_field
    url = public_weights.public_weights(backbone)
    weights = shufflenet_v2_x0_5().state_dict()
    torch.save(weights, cache / 'shufflenetv2_x0.5-f707e7126e.pth')
    fetch_weights(url)
    init_cfg = dict(type='Pretrained', checkpoint=url)
    model = MODELS.build(dict(backbone, init_cfg=init_cfg))
    model.init_weights()
    assert torch.equal(model.conv1[0].weight, weights['conv1.0.weight'])
    assert model.expected_input == NORMALISED_RGB


def test_weights_come_from_a_server(cache, tmp_path):
    torch.save(shufflenet_v2_x0_5().state_dict(), tmp_path / 'x.pth')
    handler = partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path)
    )
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}'
        fetch_weights(f'{url}/x.pth')
        with pytest.raises(UserError, match='File not found'):
            fetch_weights(f'{url}/y.pth')
        server.shutdown()
    assert (cache / 'x.pth').is_file()


def test_without_a_network_three_ways_are_named(cache, monkeypatch):
    def refuse(*_, **__):
        raise URLError('no network here')

    monkeypatch.setattr(torch.hub, 'urlopen', refuse)
    with pytest.raises(UserError) as error:
        fetch_weights(PUBLIC_WEIGHTS['shufflenet_v2_x0_5'])
    text = str(error.value)
    assert 'no network here' in text
    assert str(cache / 'shufflenetv2_x0.5-f707e7126e.pth') in text
    assert 'https://download.pytorch.org/models/shufflenetv2_x0.5' in text
    assert '--backbone-weights FILE' in text
    assert '--from-scratch' in text


@pytest.mark.parametrize(
    'backbone, known',
    [
        (dict(type='ShuffleNetV2', widen_factor=1.0), True),
        (dict(type='ShuffleNetV2', widen_factor=1.0, with_se=True), False),
        (
            dict(
                type='ShuffleNetV1',
                widen_factor=1.0,
                groups=3,
                style='mmpretrain',
            ),
            True,
        ),
        (dict(type='ResNet', depth=101), True),
        (dict(type='ResNet', depth=18), False),
        (dict(type='Xception', widen_factor=1.0), False),
    ],
)
def test_a_config_has_the_weights_of_its_network(backbone, known):
    assert (public_weights.public_weights(backbone) is not None) == known


def photographs(count: int = 4) -> list[torch.Tensor]:
    """Smooth random colours, BGR, blue darker than red."""
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(count, 3, 6, 6, generator=generator)
    images = torch.nn.functional.interpolate(low, (48, 64), mode='bilinear')
    return list(
        images.mul(torch.tensor([140, 180, 220.0])[:, None, None]).byte()
    )


@pytest.mark.parametrize('given', [NORMALISED_RGB, SCALED_RGB, RAW_BGR])
def test_the_first_norm_tells_what_a_network_was_trained_on(given):
    torch.manual_seed(0)
    backbone = ShuffleNetV2(0.5, out_indices=(0,)).train()
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (given.mean, given.std)
    )
    for _ in range(60):
        batch = torch.stack(photographs()).float()
        if given.channel_order == 'RGB':
            batch = batch.flip(1)
        backbone((batch - mean) / std)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    fit = input_fit(backbone, photographs())
    assert fit.norm == 'conv1.1'
    assert fit.best == given
    assert fit.fits(given)
    wrong = SCALED_BGR if given is not SCALED_RGB else RAW_BGR
    assert not fit.fits(wrong)
    assert f'as {given} they are' in fit.message(wrong)
    # The network is as it was.
    assert backbone.training
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.real_data
def test_published_weights_and_photographs_tell(published_file):
    init_cfg = dict(type='Pretrained', checkpoint=str(published_file))
    backbone = ShuffleNetV2(0.5, style='authors', init_cfg=init_cfg)
    backbone.init_weights()
    folder = published_file.parents[1] / 'data/coco_mini/val2017'
    images = [
        torch.from_numpy(cv2.imread(str(path))).permute(2, 0, 1)
        for path in sorted(folder.glob('*.jpg'))[:16]
    ]
    fit = input_fit(backbone, images)
    assert fit.best == SCALED_BGR
    assert fit.offsets[SCALED_BGR] < 0.3
    assert not fit.fits(NORMALISED_RGB)
    assert not fit.fits(RAW_BGR)


def test_an_untrained_network_tells_nothing():
    backbone = ShuffleNetV2(0.5, out_indices=(0,))
    assert input_fit(backbone, photographs(1), CANDIDATES) is None
