"""Which input pretrained weights expect, read off their first norm.

Wrong channel order, mean or scale does not fail, it gives poor features. The
running statistics of the first norm say what it received in pretraining, so
they are compared with what it receives from images at hand.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..compat.input_format import (
    NORMALISED_BGR,
    NORMALISED_RGB,
    RAW_BGR,
    RAW_RGB,
    SCALED_BGR,
    SCALED_RGB,
    InputFormat,
)

CANDIDATES = (
    NORMALISED_RGB,
    NORMALISED_BGR,
    SCALED_RGB,
    SCALED_BGR,
    RAW_RGB,
    RAW_BGR,
)
# An input is wrong if it is so much further off than the best one. Real
# photographs are 0.15 off as they should be given; microscope images, whose
# colours are others, 1.1. Swapped colours alone cost less than this.
FAR = 0.5


@dataclass(frozen=True)
class InputFit:
    """How far each input is from what a network was trained on.

    Attributes:
        norm: name of the network's first norm.
        offsets: how far off each input is, the best one first: the median
            over the norm's channels of the distance of the means, in standard
            deviations, plus the logarithm of the ratio of the deviations.
    """

    norm: str
    offsets: dict[InputFormat, float]

    @property
    def best(self) -> InputFormat:
        return next(iter(self.offsets))

    def fits(self, given: InputFormat) -> bool:
        """Whether an input, one of ``offsets``, is about the best."""
        return self.offsets[given] - self.offsets[self.best] <= FAR

    def message(self, given: InputFormat) -> str:
        """What to tell a user whose images are given so."""
        text = (
            f'images as {given} are {self.offsets[given]:.2g} standard '
            f'deviations off the statistics of the first norm, {self.norm}'
        )
        if self.fits(given):
            return f'{text}: they fit the weights'
        return (
            f'{text}; as {self.best} they are {self.offsets[self.best]:.2g} '
            'off, which fits'
        )


@torch.no_grad()
def input_fit(
    backbone: nn.Module,
    images: Sequence[Tensor],
    candidates: Iterable[InputFormat] = CANDIDATES,
) -> InputFit | None:
    """Compare inputs by what the first norm of a network receives.

    Args:
        backbone: with pretrained weights; it is left as it is.
        images: (3, H, W) each, BGR of 0 to 255, as mmdet's pipelines give
            them; a dozen is enough.
        candidates: inputs to try; the run's own should be among them.

    Returns:
        None if there is no first norm with running statistics, or it was
        not trained.
    """
    norms = {
        module: name
        for name, module in backbone.named_modules()
        if isinstance(module, _BatchNorm)
        and module.running_mean is not None
        # As a constructor leaves them.
        and (module.running_mean.any() or (module.running_var != 1).any())
    }
    if not norms:
        return None
    device = next(iter(norms)).running_mean.device
    training = {m: m.training for m in backbone.modules()}
    backbone.eval()
    found = None
    offsets = {}
    try:
        for each in dict.fromkeys(candidates):
            received = []
            for image in images:
                norm, x = _first_norm_input(
                    backbone, norms, _as_input(image, each).to(device)
                )
                found = norm
                received.append(x.transpose(0, 1).flatten(1))
            if found not in norms:
                return None
            offsets[each] = _offset(found, torch.cat(received, 1))
    finally:
        for module, mode in training.items():
            module.training = mode
    order = sorted(offsets.items(), key=lambda item: item[1])
    return InputFit(norms[found], dict(order))


def _as_input(image: Tensor, input_format: InputFormat) -> Tensor:
    image = image.float()
    if input_format.channel_order == 'RGB':
        image = image.flip(0)
    mean, std = (
        image.new_tensor(values)[:, None, None]
        for values in (input_format.mean, input_format.std)
    )
    return ((image - mean) / std)[None]


class _Reached(Exception):
    """Ends a forward pass at its first norm."""


def _first_norm_input(
    backbone: nn.Module, norms: dict, x: Tensor
) -> tuple[nn.Module, Tensor]:
    """The norm that a forward pass comes to first, and what it is given."""

    def stop(module: nn.Module, inputs: tuple[Tensor, ...]):
        raise _Reached(module, inputs[0])

    handles = [
        module.register_forward_pre_hook(stop)
        for module in backbone.modules()
        if isinstance(module, _BatchNorm)
    ]
    try:
        backbone(x)
    except _Reached as reached:
        return reached.args
    finally:
        for handle in handles:
            handle.remove()
    return None, x


def _offset(norm: _BatchNorm, received: Tensor) -> float:
    """The median over channels, some of which may be dead.

    Args:
        norm: has the statistics of pretraining.
        received: (channels, values).
    """
    deviation = norm.running_var.sqrt()
    off = (received.mean(1) - norm.running_mean).abs() / deviation
    scale = (received.std(1) / deviation).log().abs()
    return float((off + scale).nan_to_num(torch.inf).median())
