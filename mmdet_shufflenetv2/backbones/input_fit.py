"""Which input pretrained weights expect, read off their first norm.

Wrong channel order, mean or scale does not fail, it gives poor features. The
running statistics of the first norm say what it received in pretraining, so
they are compared with what it receives from images at hand.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..compat import input_format as known
from ..compat.input_format import InputFormat

CANDIDATES = (
    *(known.NORMALISED_RGB, known.NORMALISED_BGR),
    *(known.SCALED_RGB, known.SCALED_BGR),
    *(known.RAW_RGB, known.RAW_BGR),
)
# An input is wrong if it is so much further off than the best one. As they
# should be given, photographs are 0.15 off, microscope images 1.1.
FAR = 0.5


@dataclass(frozen=True)
class InputFit:
    """How far each input is from what a network was trained on.

    Attributes:
        norm: name of the network's first norm.
        offsets: of each input, the best one first: the median over channels
            of the distance of the means, in standard deviations, plus the
            logarithm of the ratio of the deviations.
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
        best = self.offsets[self.best]
        return f'{text}; as {self.best} they are {best:.2g} off, which fits'


class _Reached(Exception):
    """Ends a forward pass at the first norm, with what it receives."""


@torch.no_grad()
def input_fit(
    backbone: nn.Module,
    images: Sequence[Tensor],
    candidates: Iterable[InputFormat] = CANDIDATES,
) -> InputFit | None:
    """Compare inputs by what the first norm of a network receives.

    None if there is no first norm with running statistics, or it was not
    trained. Images are (3, H, W), BGR of 0 to 255, as mmdet's pipelines give
    them; a dozen is enough.
    """

    def stop(module: nn.Module, inputs: tuple[Tensor, ...]):
        raise _Reached(inputs[0].transpose(0, 1).flatten(1))

    backbone = copy.deepcopy(backbone).eval()
    norms = (
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, _BatchNorm)
    )
    name, norm = next(norms, ('', None))
    mean = getattr(norm, 'running_mean', None)
    # A constructor leaves 0 and 1.
    if mean is None or not (mean.any() or norm.running_var.ne(1).any()):
        return None
    norm.register_forward_pre_hook(stop)
    deviation = norm.running_var.sqrt()
    offsets = {}
    for each in dict.fromkeys(candidates):
        received = []
        for image in images:
            try:
                backbone(_as_input(image, each).to(mean.device))
            except _Reached as reached:
                received += reached.args
        if not received:  # A forward pass leaves the norm out.
            return None
        values = torch.cat(received, 1)
        off = (values.mean(1) - mean).abs() / deviation
        off += (values.std(1) / deviation).log().abs()
        # Some channels may be dead.
        offsets[each] = float(off.nan_to_num(torch.inf).median())
    return InputFit(name, dict(sorted(offsets.items(), key=lambda o: o[1])))


def _as_input(image: Tensor, input_format: InputFormat) -> Tensor:
    image = image.float()
    if input_format.channel_order == 'RGB':
        image = image.flip(0)
    mean, std = (
        image.new_tensor(values)[:, None, None]
        for values in (input_format.mean, input_format.std)
    )
    return ((image - mean) / std)[None]
