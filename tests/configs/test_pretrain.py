"""Classification configs: the paper's protocol, every kind of network."""

import pytest
import torch
from commands import ROOT
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmdet_shufflenetv2.backbones.zoo import NETWORKS, network
from mmdet_shufflenetv2.engine import run_config

CONFIG = ROOT / 'configs' / 'pretrain.py'
REFERENCE = 'shufflenet_v2_x1_0'
# The first network of each backbone type.
FAMILIES = {}
for _name, _row in NETWORKS.items():
    FAMILIES.setdefault(_row.config['type'], _name)


@pytest.fixture(autouse=True)
def mmpretrain_scope(mmdet_scope):
    """Apply the ``default_scope`` of the configs."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def load(network: str = REFERENCE):
    return run_config.load_config(str(CONFIG), network=network)


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


def test_only_weights_of_layers_decay():
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
