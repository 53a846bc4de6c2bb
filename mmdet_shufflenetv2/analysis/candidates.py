"""Post-processing worth timing, of a detector with random weights.

What suppression costs depends on how many boxes pass the score threshold. Of
random weights all do, or none; either says nothing about a trained network.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

# Boxes and classes per image that pass: the order of what detectors trained
# on COCO hand to their last suppression.
CANDIDATES = 1000


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
