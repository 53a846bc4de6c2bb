"""Classification configs: the paper's protocol, every kind of network."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commands import ROOT
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmdet_shufflenetv2.backbones.zoo import NETWORKS, network
from mmdet_shufflenetv2.engine import run_config
from mmdet_shufflenetv2.measure.published import values

CONFIG = ROOT / 'configs' / 'pretrain.py'
REFERENCE = 'shufflenet_v2_x1_0'
# The first network of every type of backbone.
FAMILIES = {}
for _name, _row in NETWORKS.items():
    FAMILIES.setdefault(_row.config['type'], _name)


@pytest.fixture(autouse=True)
def mmpretrain_scope(mmdet_scope):
    """As ``default_scope`` of the configs has it."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def load(network: str = REFERENCE):
    return run_config.load_config(str(CONFIG), network=network)


def test_every_network_of_tables_6_7_and_8_can_be_chosen():
    """V2*, of Table 7, has no published classification error."""
    star = {name for name in NETWORKS if '_star_' in name}
    assert star | set(values('top-1 error')) <= set(NETWORKS)


@pytest.mark.parametrize('name', FAMILIES.values())
def test_network_is_built_for_its_size_and_trains_a_step(name):
    torch.manual_seed(0)
    cfg, row = load(name), network(name)
    crop = cfg.test_dataloader.dataset.pipeline[2].crop_size
    assert crop == cfg.train_dataloader.dataset.pipeline[1].scale
    assert crop == row.input_size
    cfg.model.head.num_classes = 7
    model = MODELS.build(cfg.model)
    assert model.backbone.out_indices == (row.last_level,)
    model.init_weights()
    batch = dict(
        inputs=torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8),
        data_samples=[DataSample().set_gt_label(label) for label in (1, 5)],
    )
    data = model.data_preprocessor(batch, training=True)
    model(**data, mode='loss')['loss'].backward()
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    assert missing == []
    predicted = model.eval().val_step(batch)
    assert [sample.pred_score.shape for sample in predicted] == [(7,)] * 2


def test_batch_iterations_and_optimizer_are_the_papers():
    cfg = load()
    assert 8 * cfg.train_dataloader.batch_size == 1024
    assert cfg.auto_scale_lr.base_batch_size == 1024
    assert cfg.train_cfg.max_iters == 300_000
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer == dict(
        type='SGD', lr=0.5, momentum=0.9, weight_decay=4e-5
    )


def test_rate_falls_by_a_straight_line_to_0():
    """Whatever the length of the run is, says `test_schedule`."""
    cfg = load()
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=cfg.optim_wrapper.optimizer.lr)
    # The end that mmengine's runner fills in.
    options = dict(cfg.param_scheduler, end=50, optimizer=optimizer)
    scheduler = PARAM_SCHEDULERS.build(options)
    for iteration in range(50):
        rate = optimizer.param_groups[0]['lr']
        assert rate == pytest.approx(0.5 * (1 - iteration / 49), abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_nothing_but_weights_of_layers_decays():
    cfg = load()
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decays = {
        id(group['params'][0]): group['weight_decay']
        for group in wrapper.param_groups
    }
    for name, parameter in model.named_parameters():
        is_layer = parameter.ndim > 1
        assert decays[id(parameter)] == (4e-5 if is_layer else 0), name


def test_labels_are_smoothed_by_a_tenth():
    head = MODELS.build(dict(load().model.head, in_channels=4))
    features, labels = torch.randn(3, 4), [0, 9, 999]
    expected = F.cross_entropy(
        head.fc(features), torch.tensor(labels), label_smoothing=0.1
    )
    samples = [DataSample().set_gt_label(label) for label in labels]
    loss = head.loss((features,), samples)['loss']
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('height, width', [(512, 1024), (1024, 512)])
def test_evaluation_sees_the_centre_of_the_short_side_of_256(
    height, width, tmp_path
):
    # Red grows downwards and green to the right.
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = np.linspace(0, 255, height)[:, None]
    image[..., 1] = np.linspace(0, 255, width)
    path = str(tmp_path / 'picture.png')
    cv2.imwrite(path, image)
    pipeline = Compose(load().test_dataloader.dataset.pipeline)
    packed = pipeline(dict(img_path=path, gt_label=1))
    assert packed['inputs'].shape == (3, 224, 224)
    _, green, red = packed['inputs'].float() / 255
    # 224 of 256 pixels along the short side, of 512 along the long one.
    for profile, side in (red[:, 112], height), (green[112], width):
        share = 224 / (256 * side / 512)
        assert profile.mean() == pytest.approx(0.5, abs=0.01)
        assert profile[-1] - profile[0] == pytest.approx(share, abs=0.02)
