"""Focal loss against torchvision's, differentiated by autograd."""

import pytest
import torch
from mmcv.ops import sigmoid_focal_loss
from torch import Tensor
from torchvision import ops

NUM_CLASSES = 4


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(7, NUM_CLASSES, generator=generator) * 4
    return values.double().requires_grad_()


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('gamma, alpha', [(2.0, 0.25), (0.5, 0.6)])
def test_focal_loss_equals_torchvisions(logits, gamma, alpha, weighted):
    # The number of classes itself means background.
    target = torch.tensor([0, 3, NUM_CLASSES, 1, 1, 2, NUM_CLASSES])
    weight = torch.tensor([0.5, 1.5, 2.0, 0.7]).double()
    own = torch.nn.functional.one_hot(target, NUM_CLASSES + 1)[:, :-1]
    expected = ops.sigmoid_focal_loss(logits, own.double(), alpha, gamma)
    if weighted:
        factors = torch.cat((weight, weight.new_ones(1)))
        expected = expected * factors[target][:, None]
    settings = gamma, alpha, weight if weighted else None
    got = sigmoid_focal_loss(logits, target, *settings, 'none')
    torch.testing.assert_close(got, expected)
    weights = torch.randn_like(got)
    grad, slow = (
        torch.autograd.grad(loss, logits, weights)[0]
        for loss in (got, expected)
    )
    assert grad.abs().sum() > 0
    torch.testing.assert_close(grad, slow)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_extreme_logits_have_finite_losses_and_gradients(dtype, gamma):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], dtype=dtype)
    logits.requires_grad_()
    target = torch.tensor([0, 0])
    loss = sigmoid_focal_loss(logits, target, gamma, 0.25, None, 'sum')
    loss.backward()
    assert loss.dtype == dtype
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
