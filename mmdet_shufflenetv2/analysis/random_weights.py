"""Random weights made fit for timing, as trained ones would be.

Batch norms take their statistics from random images, so that maps keep their
size from layer to layer. What suppression costs depends on how many boxes
pass a detector's score threshold: of random weights all do, or none, and
either says nothing about a trained network, so the threshold is chosen.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from ..measure.networks import settle_norms
from ..measure.setting import Setting
from .networks import Subject, random_image


def settle(subject: Subject, size: tuple[int, int], setting: Setting) -> None:
    """Let maps of random weights have the size of trained ones."""
    norms = [m for m in subject.model.modules() if isinstance(m, _BatchNorm)]
    for norm in norms:
        # Residual branches are made to begin at zero, and would hide
        # whatever they see.
        if norm.affine and not norm.weight.any():
            nn.init.ones_(norm.weight)

    def forward(image: Tensor) -> object:
        # A backbone with `norm_eval` keeps its own in evaluation mode.
        for norm in norms:
            norm.train()
        return subject.features(image)

    # Two images: one gives a map of one pixel no variance. As large as asked
    # for, since SSD or a transformer takes no others.
    image = random_image(2, size, setting.device).to(setting.dtype)
    settle_norms(subject.model, image, forward)
    subject.model.eval()


def thresholds(model: nn.Module) -> Iterator[dict]:
    """The test settings of a detector's heads that have a threshold."""
    for module in model.modules():
        settings = getattr(module, 'test_cfg', None)
        if isinstance(settings, dict) and 'score_thr' in settings:
            yield settings


class _Scores(TorchDispatchMode):
    """Collects the best of what is compared with a threshold."""

    def __init__(self, values: set[float], most: int):
        super().__init__()
        self._values, self._most = values, most
        self.best: list[Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name in ('aten::gt', 'aten::ge') and args[1] in self._values:
            scores = args[0].flatten().float()
            most = min(self._most, len(scores))
            self.best.append(scores.topk(most).values)
        return func(*args, **(kwargs or {}))


def let_pass(
    model: nn.Module, run: Callable[[], object], candidates: int
) -> float | None:
    """Set a detector's score threshold so that so many scores are above it.

    Args:
        model: its heads' test settings are changed.
        run: one forward pass.
        candidates: how many, of all images together.

    Returns:
        the threshold; None if the network compares no score with one.
    """
    found = list(thresholds(model))
    values = {float(settings['score_thr']) for settings in found}
    scores = _Scores(values, candidates + 1)
    with torch.no_grad(), scores:
        run()
    if not scores.best:
        return None
    best = torch.cat(scores.best).sort(descending=True).values
    threshold = best[min(candidates, len(best) - 1)].item()
    for settings in found:
        settings['score_thr'] = threshold
    return threshold
