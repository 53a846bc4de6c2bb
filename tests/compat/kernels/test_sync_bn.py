"""mmcv's SyncBatchNorm on the stand-in, in a group of one process."""

import pytest
import torch
import torch.distributed as dist
from mmcv.ops import SyncBatchNorm


@pytest.fixture
def process_group(tmp_path):
    store = dist.FileStore(str(tmp_path / 'store'), 1)
    dist.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures('process_group')
@pytest.mark.parametrize('stats_mode', ['default', 'N'])
def test_alone_it_is_batch_norm(stats_mode):
    torch.manual_seed(0)
    layer = SyncBatchNorm(3, stats_mode=stats_mode)
    plain = torch.nn.BatchNorm2d(3)
    plain.load_state_dict(layer.state_dict())
    values = torch.randn(4, 3, 5, 6) * 3 + 1
    leaves = [values.clone().requires_grad_() for _ in range(2)]
    weights = torch.randn_like(values)
    for module, leaf in zip((layer, plain), leaves, strict=True):
        (module(leaf) * weights).sum().backward()
    torch.testing.assert_close(layer(values), plain(values))
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad)
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)
    torch.testing.assert_close(layer.bias.grad, plain.bias.grad)
    torch.testing.assert_close(layer.running_mean, plain.running_mean)
    torch.testing.assert_close(layer.running_var, plain.running_var)
