"""Images per second in the log, and curves of a run as a picture."""

import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmdet.registry import HOOKS
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop, Runner


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Log training images per second, over all processes."""

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Derive the figure from the timer hook's last iteration."""
        hub = runner.message_hub
        images = len(data_batch['inputs']) * get_world_size()
        seconds = hub.get_scalar('train/time').current()
        hub.update_scalar('train/images_per_s', images / seconds)


@HOOKS.register_module()
class CurvesHook(Hook):
    """Keep ``curves.png`` in the work dir: losses above, scores below.

    Args:
        out_name: The picture's name.
    """

    priority = 'LOW'

    def __init__(self, out_name: str = 'curves.png'):
        self.out_name = out_name

    def after_val_epoch(
        self, runner: Runner, metrics: dict | None = None
    ) -> None:
        """Redraw, so that a run that stops early has its curves too."""
        if runner._train_loop is not None:
            self._save(runner)

    def after_train(self, runner: Runner) -> None:
        """Draw the whole run."""
        self._save(runner)

    @master_only
    def _save(self, runner: Runner) -> None:
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        figure = draw_curves(
            runner.message_hub,
            loop.val_interval,
            'epoch' if by_epoch else 'iteration',
            loop.max_epochs if by_epoch else loop.max_iters,
        )
        target = Path(runner.work_dir) / self.out_name
        temporary = target.with_suffix('.tmp.png')
        figure.savefig(temporary, dpi=120)
        os.replace(temporary, target)
        runner.logger.info(f'Curves: {target}')


def draw_curves(
    hub: MessageHub,
    val_interval: int = 1,
    unit: str = 'epoch',
    last: int | None = None,
) -> Figure:
    """Draw every training loss and every validation score of a run.

    Args:
        hub: Where the run's history is.
        val_interval: Epochs (or iterations) between two validations.
        unit: What the interval counts.
        last: Epochs (or iterations) of the whole run, whose end is validated
            too, within an interval.

    Returns:
        A figure of two axes.
    """
    figure = Figure(figsize=(8, 8), layout='constrained')
    losses, scores = figure.subplots(2)
    highest = 1
    for name, buffer in hub.log_scalars.items():
        values = np.asarray(buffer.data[0], dtype=float)
        if name.startswith('train/') and 'loss' in name:
            losses.plot(*smoothed(values), label=name.removeprefix('train/'))
        elif name.startswith('val/') and ('mAP' in name or 'error' in name):
            # An mAP is a share, an error is in %.
            highest = 100 if 'error' in name else highest
            steps = val_interval * (1 + np.arange(len(values)))
            steps = np.minimum(steps, last or steps)
            # pycocotools says -1 where no object of that size exists.
            scores.plot(
                steps,
                np.where(values < 0, np.nan, values),
                marker='.',
                label=name.removeprefix('val/'),
            )
    losses.set(xlabel='iteration', ylabel='loss (running mean)')
    losses.set_yscale('log')
    ylabel = 'score' if highest == 1 else 'error (%)'
    scores.set(xlabel=unit, ylabel=ylabel, ylim=(0, highest))
    for axes in losses, scores:
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize='small')
    return figure


def smoothed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give a running mean over 2 % of the values and its positions."""
    window = max(1, len(values) // 50)
    sums = np.cumsum(np.insert(values, 0, 0.0))
    means = (sums[window:] - sums[:-window]) / window
    return np.arange(window, len(values) + 1), means
