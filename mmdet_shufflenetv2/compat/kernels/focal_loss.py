"""Sigmoid focal loss (arXiv 1708.02002).

Shapes: N samples, C classes. ``target`` is (N,) of class indices; C (or any
index outside) means background. ``weight`` is (C,), or empty for none.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from . import full_precision


def sigmoid_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    *,
    gamma: float,
    alpha: float,
) -> None:
    """Loss of every logit of ``input`` (N, C) into ``output`` (N, C)."""
    logits = full_precision(input)
    p = logits.sigmoid()
    loss = torch.where(
        _positives(target, logits.size(1)),
        -alpha * (1 - p) ** gamma * logsigmoid(logits),
        (alpha - 1) * p**gamma * logsigmoid(-logits),
    )
    output.copy_(loss * _class_weight(weight, target))


def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    *,
    gamma: float,
    alpha: float,
) -> None:
    """Derivative of each loss by its logit into ``grad_input`` (N, C)."""
    logits = full_precision(input)
    p = logits.sigmoid()
    q = 1 - p
    grad = torch.where(
        _positives(target, logits.size(1)),
        -alpha * q**gamma * (q - gamma * p * logsigmoid(logits)),
        (alpha - 1) * p**gamma * (gamma * q * logsigmoid(-logits) - p),
    )
    grad_input.copy_(grad * _class_weight(weight, target))


def _positives(target: Tensor, num_classes: int) -> Tensor:
    """Mask (N, C), true where the class is the sample's own."""
    return target[:, None] == torch.arange(num_classes, device=target.device)


def _class_weight(weight: Tensor, target: Tensor) -> Tensor | int:
    """Factor (N, 1) of each sample; background has no class, so 1."""
    if not weight.numel():
        return 1
    known = (target >= 0) & (target < len(weight))
    return torch.where(known, weight[target.where(known, 0)], 1)[:, None]
