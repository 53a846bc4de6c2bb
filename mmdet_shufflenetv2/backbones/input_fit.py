"""Detect which input pretrained weights expect from their first norm.

A wrong channel order, mean or scale raises no error but gives poor features.
The running statistics of the first norm record what it received during
pretraining; they are compared with what it receives from given images.
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
# An input is wrong if its offset exceeds the best one's by more than this.
# With the right input, photographs are 0.15 off and microscope images 1.1.
FAR = 0.5


@dataclass(frozen=True)
class InputFit:
    """How far each input format is from what a network was trained on.

    Attributes:
        norm: name of the network's first norm.
        offsets: input format -> offset, the best first. An offset is the
            median over channels of the distance between the means, in
            standard deviations, plus the log ratio of the deviations.
    """

    norm: str
    offsets: dict[InputFormat, float]

    @property
    def best(self) -> InputFormat:
        return next(iter(self.offsets))

    def fits(self, given: InputFormat) -> bool:
        """Whether an input, one of ``offsets``, is about as good as `best`."""
        return self.offsets[given] - self.offsets[self.best] <= FAR

    def message(self, given: InputFormat) -> str:
        """The message for a user whose images have this format."""
        text = (
            f'images as {given} are {self.offsets[given]:.2g} standard '
            f'deviations off the statistics of the first norm, {self.norm}'
        )
        if self.fits(given):
            return f'{text}: they fit the weights'
        best = self.offsets[self.best]
        return f'{text}; as {self.best} they are {best:.2g} off, which fits'


class _Reached(Exception):
    """Ends a forward pass at the first norm; carries that norm's input."""


@torch.no_grad()
def input_fit(
    backbone: nn.Module,
    images: Sequence[Tensor],
    candidates: Iterable[InputFormat] = CANDIDATES,
) -> InputFit | None:
    """Compare input formats by what a network's first norm receives.

    Images are (3, H, W), BGR from 0 to 255, as from mmdet's pipelines; a
    dozen is enough. None if the first norm has no running statistics, was not
    trained, or does not exist.
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
    # Untrained norms have mean 0 and variance 1.
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
        if not received:  # The forward pass skips this norm.
            return None
        values = torch.cat(received, 1)
        off = (values.mean(1) - mean).abs() / deviation
        off += (values.std(1) / deviation).log().abs()
        # Dead channels give NaN.
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
