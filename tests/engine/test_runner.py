import pytest
import torch
from torch import nn

from mmdet_shufflenetv2.engine.runner import (
    CheckpointMismatch,
    load_fitting,
    mismatches,
)


def network(classes=3):
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, classes))


def test_the_same_network_has_no_mismatch():
    assert mismatches(network(), network().state_dict()) == []


def test_every_kind_of_mismatch_is_named():
    state = network(5).state_dict()
    del state['0.bias']
    state['2.weight'] = torch.zeros(1)
    missing, unknown, shapes = mismatches(network(), state)
    assert missing == '1 missing in the checkpoint: 0.bias'
    assert unknown == '1 unknown to the model: 2.weight'
    assert '1.weight (checkpoint (5, 8), model (3, 8))' in shapes


def test_long_lists_are_cut():
    state = {f'extra{i}': torch.zeros(1) for i in range(9)}
    unknown = mismatches(nn.Identity(), state)[0]
    assert unknown.startswith('9 unknown')
    assert unknown.endswith('extra4, ...')


def test_fitting_checkpoint_is_loaded(tmp_path):
    path = tmp_path / 'fits.pth'
    source, target = network(), network()
    wrapped = {f'module.{k}': v for k, v in source.state_dict().items()}
    torch.save(dict(state_dict=wrapped, meta=dict(epoch=3)), path)
    checkpoint = load_fitting(target, str(path))
    assert checkpoint['meta']['epoch'] == 3
    x = torch.randn(2, 4)
    torch.testing.assert_close(target(x), source(x))


def test_other_number_of_classes_is_refused_whole(tmp_path):
    path = tmp_path / 'five.pth'
    meta = dict(dataset_meta=dict(classes=['a', 'b', 'c', 'd', 'e']))
    torch.save(dict(state_dict=network(5).state_dict(), meta=meta), path)
    target = network()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointMismatch) as error:
        load_fitting(target, str(path))
    assert str(path) in str(error.value)
    assert '1.weight (checkpoint (5, 8), model (3, 8))' in str(error.value)
    assert 'knows 5 classes: a, b, c, d, e' in str(error.value)
    for key, value in target.state_dict().items():
        assert torch.equal(value, before[key])
