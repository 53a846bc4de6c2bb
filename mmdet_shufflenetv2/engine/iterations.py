"""Iteration-based training that can be resumed in the middle.

mmengine's loop reads, decodes and throws away every batch that was trained on
before, which after 200,000 iterations takes as long as the training did. Here
the order of the data is computed, so that any place of it can be started at.
"""

from collections.abc import Iterator
from itertools import chain, islice, repeat

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS, LOOPS
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import Dataset, Sampler


@DATA_SAMPLERS.register_module()
class EndlessSampler(Sampler):
    """Goes through the data without end, in another order every time.

    All processes together take the images of each pass once.

    Args:
        dataset: What to go through.
        seed: The order depends on it; None means a random one.

    Attributes:
        start: Images of this process to leave out at the beginning.
    """

    def __init__(self, dataset: Dataset, seed: int | None = None):
        self.size = len(dataset)
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        self.start = 0

    def __iter__(self) -> Iterator[int]:
        place = self.start * self.world_size + self.rank
        generator = torch.Generator()
        while True:
            number, offset = divmod(place, self.size)
            generator.manual_seed(self.seed + number)
            order = torch.randperm(self.size, generator=generator)
            mine = order[offset :: self.world_size].tolist()
            yield from mine
            place += len(mine) * self.world_size

    def __len__(self) -> int:
        """Images of one pass."""
        return self.size


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """mmengine's loop by iterations, with `EndlessSampler` for its data."""

    def run(self) -> torch.nn.Module:
        """Train from the current iteration to the last one."""
        if self._iter:
            loader, done = self.dataloader, self._iter
            loader.sampler.start = done * loader.batch_size
            self.dataloader_iterator = _Batches(loader, done)
            # onedl-mmengine's switch to leave out the skipping.
            self.fast_forward_on_resume = False
        return super().run()


class _Batches(chain):
    """None for each batch that was trained on before, then the rest.

    mmengine takes as many one by one, onedl-mmengine by `skip_iter`.
    """

    def __new__(cls, loader, done: int):
        return super().__new__(cls, repeat(None, done), iter(loader))

    def skip_iter(self, count: int) -> None:
        """Take batches and forget them."""
        list(islice(self, count))
