"""Schedules that follow the length of the run, and a loop that goes on.

mmengine's epoch numbers (``milestones=[19, 25]``, ``T_max=30``) stay where
they are when ``max_epochs`` changes: a longer run then trains at a hundredth
of the rate for most of its time, a shorter one never lowers it.
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
    """One of mmengine's schedulers, its times being shares of the run.

    A tenth of the rate after two thirds, and a cosine over the second half::

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
    ):
        """Build the scheduler for a run, as mmengine's runner calls it.

        Args:
            optimizer: Whose rates it changes.
            scheduler: As mmengine takes it, without begin and end;
                ``milestones`` and ``T_max`` are shares of the run.
            end: Epochs of the run.
            epoch_length: Iterations of one.
            share: Where in the run the scheduler begins and ends.
        """
        steps = end * epoch_length
        begin, stop = (round(part * steps) for part in share)
        # The shortest run has no warm-up, but a scheduler has to have a step.
        options = dict(
            scheduler, by_epoch=False, begin=begin, end=max(stop, begin + 1)
        )
        if 'milestones' in options:
            options['milestones'] = [
                round(part * steps) - begin for part in options['milestones']
            ]
        if 'T_max' in options:
            options['T_max'] = max(1, round(options['T_max'] * steps))
        return PARAM_SCHEDULERS.build(dict(options, optimizer=optimizer))


def stretch_schedule(cfg: Config, planned: int | None) -> None:
    """Let schedules that were written for ``planned`` epochs follow the
    config's ``train_cfg.max_epochs``.
    """
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
                # A warm-up or an end that the run is too short for.
                continue
        kept.append(each)
    cfg.param_scheduler = kept
    # These are so many epochs before the end.
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
    """mmengine's loop by iterations, with its `InfiniteSampler` for the data.

    mmengine reads, decodes and throws away every batch that was trained on
    before, which after 200,000 iterations takes as long as the training did.
    Here a resumed run passes over their indices alone.
    """

    def run(self) -> torch.nn.Module:
        """Train from the current iteration to the last one."""
        # onedl-mmengine's iterator can skip.
        if self._iter and not hasattr(self.dataloader_iterator, 'skip_iter'):
            loader, done = self.dataloader, self._iter
            # Anew: workers may have taken some of the first ones.
            indices = loader.sampler._indices_of_rank()
            loader.sampler.indices = islice(
                indices, done * loader.batch_size, None
            )
            self.dataloader_iterator = chain(repeat(None, done), loader)
        return super().run()
