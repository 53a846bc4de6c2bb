"""How much of the image each level of a network sees.

The theoretical receptive field follows from kernels, strides and dilations
along the longest path. The effective one is what matters in fact: by far the
most of a position's gradient comes from a small part in the middle (Luo et
al., arXiv 1701.04128).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from textwrap import shorten

import torch
from torch import Tensor

from ..measure.memory import is_out_of_memory
from .reach.fields import Field
from .reach.following import Following

# A pixel counts where its gradient is at least this share of the largest:
# one minus what lies within two standard deviations, as in the paper.
THRESHOLD = 1 - 0.9545
# Letters of PyTorch's own message about a gradient that fails.
_MESSAGE = 120
Features = Callable[[Tensor], Mapping[str, Tensor]]


def theoretical_fields(
    features: Features, image: Tensor
) -> dict[str, Field | None]:
    """The receptive field of each level.

    Args:
        features: gives the levels by name.
        image: (N, 3, H, W); its values do not matter.

    Returns:
        for each level the field; None if it does not depend on the image.
    """
    following = Following(image)
    # Transformer layers do all they do in one operation, if they may.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), following:
            levels = features(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return {
        name: following.memory.field(level) for name, level in levels.items()
    }


def gradient_maps(
    features: Features,
    like: Tensor,
    samples: int = 4,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, Tensor]:
    """Where the gradient of each level's middle position comes from.

    Args:
        features: gives the levels by name.
        like: an image (1, 3, H, W); its values do not matter.
        samples: images to average over; each has its own random signs of
            the channels' gradients.
        progress: called after each image.

    Returns:
        for each map among the levels (H, W), the largest value is 1.
    """
    generator = torch.Generator().manual_seed(0)
    sums: dict[str, Tensor] = {}
    for _ in range(samples):
        image = torch.randn(like.shape, generator=generator).to(like)
        image.requires_grad_()
        with torch.enable_grad():
            levels = {
                name: level
                for name, level in features(image).items()
                if level.dim() == 4 and level.requires_grad
            }
            for name, level in levels.items():
                middle = level[0, :, level.shape[2] // 2, level.shape[3] // 2]
                signs = torch.randint(2, middle.shape, generator=generator)
                (gradient,) = torch.autograd.grad(
                    middle, image, signs.to(middle) * 2 - 1, retain_graph=True
                )
                strength = gradient[0].abs().sum(0)
                sums[name] = sums.get(name, 0) + strength.float().cpu()
        progress()
    return {name: total / total.max() for name, total in sums.items()}


def gradients_or_problem(
    features: Features,
    like: Tensor,
    samples: int,
    progress: Callable[[], object] = lambda: None,
) -> tuple[dict[str, Tensor], str | None]:
    """`gradient_maps`, or none and the reason why they cannot be had.

    No samples ask for none, which needs no reason.
    """
    if not samples:
        return {}, None
    try:
        return gradient_maps(features, like, samples, progress), None
    except (RuntimeError, MemoryError) as error:
        # Networks need not have a gradient to be timed.
        reason = 'its gradient cannot be computed: '
        if is_out_of_memory(error):
            reason = 'its gradient does not fit in memory: '
        first = str(error).partition('\n')[0].partition(' Hint: ')[0]
        return {}, reason + shorten(first, _MESSAGE)


def receptive_fields(
    features: Features,
    like: Tensor,
    samples: int,
    progress: Callable[[], object] = lambda: None,
) -> tuple[dict[str, Field | None], dict[str, Tensor], str | None]:
    """`theoretical_fields` and `gradients_or_problem`, held together.

    A theoretical field that gradients come from outside of is wrong, so it
    is said to be unknown.
    """
    fields = theoretical_fields(features, like)
    maps, problem = gradients_or_problem(features, like, samples, progress)
    for name, gradients in maps.items():
        field = fields[name]
        if field is not None and _reaches_further(gradients, field):
            reason = 'its gradient comes from further'
            fields[name] = replace(field, size=None, unknown=reason)
    return fields, maps, problem


def _reaches_further(gradients: Tensor, field: Field) -> bool:
    if field.size is None or field.whole_by:
        return False
    matters = gradients >= THRESHOLD
    for dim, size in zip((1, 0), field.size, strict=True):
        (places,) = matters.any(dim).nonzero(as_tuple=True)
        # A gradient that is not a number is above nothing.
        if len(places) and places[-1] - places[0] + 1 > size + 0.5:
            return True
    return False


def effective_size(gradients: Tensor) -> float:
    """The side of a square as large as the area that matters.

    Args:
        gradients: (H, W), the largest value is 1.

    Returns:
        pixels.
    """
    return math.sqrt((gradients >= THRESHOLD).sum().item())
