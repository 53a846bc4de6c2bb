"""Schedules that scale with the length of the run, and a resumable loop.

mmengine's schedulers count epochs (``milestones=[19, 25]``, ``T_max=30``) and
do not change with ``max_epochs``: a longer run would spend most of its time at
a hundredth of the learning rate, and a shorter one would never lower it.
"""

from itertools import chain, islice, repeat

import torch
from mmengine.config import Config
from mmengine.registry import LOOPS, PARAM_SCHEDULERS
from mmengine.runner import IterBasedTrainLoop

# Arguments of mmengine's schedulers that count epochs.
EPOCHS = {'begin', 'end', 'T_max', 'milestones', 'step_size'}


@PARAM_SCHEDULERS.register_module()
class OfRun:
    """One of mmengine's schedulers, timed in fractions of the run.

    Examples: a tenth of the rate after two thirds of the run, and cosine
    annealing over its second half::

        dict(
            type='OfRun',
            convert_to_iter_based=True,
            scheduler=dict(type='MultiStepLR', milestones=[2 / 3]),
        )
        dict(
            type='OfRun',
            convert_to_iter_based=True,
            share=(0.5, 1.0),
            scheduler=dict(type='CosineAnnealingLR', eta_min_ratio=0.05),
        )
    """

    @classmethod
    def build_iter_from_epoch(
        cls,
        optimizer,
        scheduler: dict,
        end: int,
        epoch_length: int,
        share: tuple[float, float] = (0.0, 1.0),
        longest: int | None = None,
    ):
        """Build the scheduler for a run, as mmengine's runner calls it.

        Args:
            optimizer: Optimizer to schedule.
            scheduler: Config of a scheduler without ``begin`` and ``end``;
                ``milestones`` and ``T_max`` are fractions of the run.
            end: Number of epochs.
            epoch_length: Iterations per epoch.
            share: Start and end of the scheduler, as fractions of the run.
            longest: Most iterations from its start to its end.
        """
        steps = end * epoch_length
        begin, stop = (round(part * steps) for part in share)
        if longest is not None:
            stop = min(stop, begin + longest)
        # In a very short run, the share may round to no step at all, and a
        # LinearLR of one step would stay at its start.
        options = dict(
            scheduler, by_epoch=False, begin=begin, end=max(stop, begin + 2)
        )
        if 'milestones' in options:
            options['milestones'] = [
                round(part * steps) - begin for part in options['milestones']
            ]
        if 'T_max' in options:
            options['T_max'] = max(1, round(options['T_max'] * steps))
        return PARAM_SCHEDULERS.build(dict(options, optimizer=optimizer))


def stretch_schedule(cfg: Config, planned: int | None) -> None:
    """Rescale schedules for ``planned`` epochs to ``train_cfg.max_epochs``."""
    epochs = cfg.train_cfg.max_epochs
    schedulers = cfg.get('param_scheduler')
    if not planned or epochs == planned or not schedulers:
        return

    def stretched(value):
        if isinstance(value, list | tuple):
            return [stretched(each) for each in value]
        return round(value * epochs / planned)

    kept = []
    for each in schedulers if isinstance(schedulers, list) else [schedulers]:
        if each.type != 'OfRun' and each.get('by_epoch', True):
            each.update({k: stretched(each[k]) for k in EPOCHS & each.keys()})
            if each.get('begin', 0) >= each.get('end', epochs):
                continue  # The run is too short for this phase.
        kept.append(each)
    cfg.param_scheduler = kept
    # These settings keep their distance from the end of the run.
    shift = epochs - planned
    if cfg.train_cfg.get('dynamic_intervals'):
        cfg.train_cfg.dynamic_intervals = [
            (max(1, first + shift), interval)
            for first, interval in cfg.train_cfg.dynamic_intervals
        ]
    for hook in cfg.get('custom_hooks') or ():
        if hook.type == 'PipelineSwitchHook':
            hook.switch_epoch = max(0, hook.switch_epoch + shift)


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """mmengine's iteration-based loop with an `InfiniteSampler`.

    To resume, mmengine loads and discards every earlier batch, which after
    200,000 iterations takes as long as the training did. This loop only skips
    their indices.
    """

    def run(self) -> torch.nn.Module:
        """Train from the current iteration to the last one."""
        # onedl-mmengine's iterator skips by itself.
        if self._iter and not hasattr(self.dataloader_iterator, 'skip_iter'):
            loader, done = self.dataloader, self._iter
            # Start over, because workers may have consumed some indices.
            indices = loader.sampler._indices_of_rank()
            loader.sampler.indices = islice(
                indices, done * loader.batch_size, None
            )
            self.dataloader_iterator = chain(repeat(None, done), loader)
        return super().run()
