"""Focal loss (arXiv 1708.02002), sigmoid and softmax.

Shapes: N samples, C classes. ``target`` is (N,) of class indices; C (or any
index outside) means background. ``weight`` is (C,), or empty for none.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .precision import full_precision


def _positives(target: Tensor, num_classes: int) -> Tensor:
    """Mask (N, C), true where the class is the sample's own."""
    return target[:, None] == torch.arange(num_classes, device=target.device)


def _class_weight(weight: Tensor, target: Tensor) -> Tensor | int:
    """Factor (N,) of each sample; background has no class, so 1."""
    if not weight.numel():
        return 1
    known = (target >= 0) & (target < len(weight))
    return torch.where(known, weight[target.where(known, 0)], 1)


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
    output.copy_(loss.T.mul(_class_weight(weight, target)).T)


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
    grad_input.copy_(grad.T.mul(_class_weight(weight, target)).T)


def softmax_focal_loss_forward(
    softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    *,
    gamma: float,
    alpha: float,
) -> None:
    """Loss of each sample into ``output`` (N,).

    Args:
        softmax: (N, C), the probabilities.
        target: A negative index gives no loss.
    """
    probability, log_probability = _of_target(softmax, target)
    loss = -alpha * (1 - probability) ** gamma * log_probability
    loss = loss * _class_weight(weight, target)
    output.copy_(loss.where(target >= 0, 0))


def softmax_focal_loss_backward(
    softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    *,
    gamma: float,
    alpha: float,
) -> None:
    """Derivative of each loss by the logits into ``grad_input`` (N, C)."""
    p, log_p = _of_target(softmax, target)
    q = 1 - p
    slope = alpha * (gamma * q ** (gamma - 1) * p * log_p - q**gamma)
    # At p = 1 a gamma below 1 gives infinity times zero; the limit is 0.
    slope = slope.where(q > 0, 0 if gamma else -alpha)
    slope = slope * _class_weight(weight, target)
    slope = slope.where(target >= 0, 0)
    buff.copy_(slope)
    own = _positives(target, softmax.size(1)).to(p.dtype)
    grad_input.copy_(slope[:, None] * (own - softmax.to(p.dtype)))


def _of_target(softmax: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probability (N,) of the target class, and its logarithm."""
    column = target.clamp(min=0)[:, None]
    p = full_precision(softmax).gather(1, column)[:, 0]
    return p, p.clamp(min=torch.finfo(torch.float32).tiny).log()
