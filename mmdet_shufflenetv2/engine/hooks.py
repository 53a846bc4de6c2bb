"""Hooks: throughput, curves, and checks of classes, losses and inputs."""

import logging
import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmdet.registry import HOOKS
from mmengine.dist import get_world_size, is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..backbones.input_fit import CANDIDATES, input_fit
from ..compat.atomic_files import whole_file
from ..compat.input_format import delivered_format
from ..data.table import shorten
from ..errors import UserError
from .run_config import checkpoint_classes, pretrained_of
from .run_dir import last_of

#: Non-finite steps in a row tolerated with mixed precision, which skips such a
#: step and halves its loss scale, from 65536 down.
AMP_PATIENCE = 32
# Number of training images used to check the input format of the weights.
IMAGES = 12


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Log training images per second, summed over all processes."""

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Divide the batch by the last iteration's time of the timer hook."""
        hub = runner.message_hub
        images = len(data_batch['inputs']) * get_world_size()
        seconds = hub.get_scalar('train/time').current()
        hub.update_scalar('train/images_per_s', images / seconds)


@HOOKS.register_module()
class CurvesHook(Hook):
    """Draw ``curves.png`` in the work dir: losses above, scores below."""

    priority = 'LOW'

    def after_val_epoch(self, runner: Runner, metrics=None) -> None:
        """Redraw, so that a run that stops early also has its curves."""
        if runner._train_loop is not None:
            self.after_train(runner)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Draw the curves of the run so far."""
        loop = runner.train_loop
        unit, last = 'iteration', loop.max_iters
        if isinstance(loop, EpochBasedTrainLoop):
            unit, last = 'epoch', loop.max_epochs
        hub = runner.message_hub
        figure = draw_curves(hub, loop.val_interval, unit, last)
        target = Path(runner.work_dir, 'curves.png')
        with whole_file(target) as file:
            figure.savefig(file, dpi=120)
        runner.logger.info(f'Curves: {target}')


def draw_curves(
    hub: MessageHub, val_interval: int, unit: str, last: int
) -> Figure:
    """Draw every training loss and every validation score of a run.

    Validations are ``val_interval`` epochs or iterations (``unit``) apart; the
    final one is at ``last``.
    """
    figure = Figure(figsize=(8, 8), layout='constrained')
    losses, scores = figure.subplots(2)
    scores.set(xlabel=unit, ylabel='score', ylim=(0, 1))
    for name, buffer in hub.log_scalars.items():
        values = np.asarray(buffer.data[0], dtype=float)
        kind, _, label = name.partition('/')
        if kind == 'train' and 'loss' in name:
            # A running mean over 2 % of the values.
            window = max(1, len(values) // 50)
            means = np.convolve(values, np.full(window, 1 / window), 'valid')
            losses.plot(window + np.arange(len(means)), means, label=label)
        elif kind == 'val' and ('mAP' in name or 'error' in name):
            steps = val_interval * (1 + np.arange(len(values)))
            # pycocotools reports -1 if there is no object of that size.
            values = np.where(values < 0, np.nan, values)
            steps = np.minimum(steps, last)
            scores.plot(steps, values, marker='.', label=label)
            if 'error' in name:
                scores.set(ylabel='error (%)', ylim=(0, 100))
    losses.set(xlabel='iteration', ylabel='loss (running mean)')
    losses.set_yscale('log')
    for axes in losses, scores:
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize='small')
    return figure


@HOOKS.register_module()
class ClassListHook(Hook):
    """Stop a run whose data sets, heads and checkpoint differ in classes.

    mmdet matches labels by their position only, so lists of another order or
    length give wrong results. Training may start from a checkpoint of other
    classes.
    """

    def before_run(self, runner: Runner) -> None:
        """Compare the data sets with each other and with the heads."""
        found = _classes_of_loops(runner)
        lists = {*found.values()}
        if len(lists) > 1:
            raise UserError(
                'expected data sets of the same classes, got '
                + '; '.join(f'{k}: {shorten(v)}' for k, v in found.items())
            )
        for name, head in runner.model.named_modules():
            count = getattr(head, 'num_classes', None)
            is_head = {'bbox_head', 'mask_head'} & {*name.split('.')}
            for classes in lists if is_head and type(count) is int else ():
                if count != len(classes):
                    raise UserError(
                        f'{name}: expected num_classes={len(classes)} '
                        f'({shorten(classes)}), got {count}'
                    )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare a tested checkpoint with its data."""
        own, found = checkpoint_classes(checkpoint), _classes_of_loops(runner)
        for name, classes in found.items():
            if own and own != classes and 'train' not in found:
                raise UserError(
                    f'expected a checkpoint of the {name} data: '
                    f'{shorten(classes)}; got one of {shorten(own)}'
                )


def _classes_of_loops(runner: Runner) -> dict[str, tuple[str, ...]]:
    """The classes of each data set that a run has built, by its split."""
    found = {}
    for name in 'train', 'val', 'test':
        # Before it is built, a loop is a config.
        loop = getattr(runner, f'_{name}_loop')
        dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
        if classes := getattr(dataset, 'metainfo', {}).get('classes'):
            found[name] = tuple(classes)
    return found


class TrainingDiverged(UserError):
    """The losses or weights of a run are NaN or infinite."""


class DivergenceHook(Hook):
    """Stop a run whose losses or weights are NaN or infinite.

    Such a run does not recover, but mmengine would go on training and replace
    the last good checkpoints.
    """

    bad_in_a_row = 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Check every loss; logging has already copied them to the CPU."""
        losses = {k: v.item() for k, v in outputs.items() if 'loss' in k}
        bad = [k for k, v in losses.items() if not math.isfinite(v)]
        self.bad_in_a_row = self.bad_in_a_row + 1 if bad else 0
        # Mixed precision skips such a step and goes on.
        scaled = hasattr(runner.optim_wrapper, 'loss_scaler')
        if self.bad_in_a_row > (AMP_PATIENCE if scaled else 0):
            parts = ', '.join(f'{k} is {losses[k]}' for k in bad)
            raise diverged(runner, f'{parts} in iteration {runner.iter + 1}')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save weights that the step after the loss has spoiled."""
        for name, value in checkpoint['state_dict'].items():
            if torch.is_tensor(value) and not torch.isfinite(value).all():
                raise diverged(
                    runner,
                    f'{name} is NaN or infinite after iteration '
                    f'{runner.iter} and is not saved',
                )


def diverged(runner: Runner, what: str) -> TrainingDiverged:
    """Make the error, with advice on what to change before a new run."""
    rate = runner.cfg.get('optim_wrapper', {}).get('optimizer', {}).get('lr')
    lower = 'X' if rate is None else f'{rate / 4:g} (now {rate:g})'
    return TrainingDiverged(
        f'{what}; {last_checkpoint(runner.work_dir)}. Start again, or from '
        "its weights with --cfg-options load_from='...', and try a lower "
        f'learning rate: --lr {lower}, a longer warm-up (param_scheduler), or '
        'gradient clipping: optim_wrapper.clip_grad.max_norm=N'
    )


def last_checkpoint(work_dir: str) -> str:
    """Say which checkpoint in a work dir can be resumed."""
    path = last_of(work_dir)
    if not path:
        return 'no checkpoint has been written yet'
    return f'the last complete checkpoint is {path}'


class InputCheckHook(Hook):
    """Check before training that the images fit the pretrained weights.

    Wrong channel order or scale raises no error, but trains worse. The running
    statistics of the first norm are compared with those on the run's own
    images; a warning names the setting that would fit.
    """

    def before_train(self, runner: Runner) -> None:
        """Compare on images from the training pipeline."""
        if not is_main_process():
            return
        model = getattr(runner.model, 'module', runner.model)
        given = delivered_format(getattr(model, 'data_preprocessor', None))
        config = runner.cfg.get('model') or {}
        start = pretrained_of(config.get('backbone') or {})
        if start is None or given is None or runner.iter:
            return
        dataset = runner.train_dataloader.dataset
        step = max(1, len(dataset) // IMAGES)
        indices = range(0, len(dataset), step)[:IMAGES]
        images = [dataset[i]['inputs'] for i in indices]
        if any(image.ndim != 3 for image in images):
            return
        fit = input_fit(model.backbone, images, (*CANDIDATES, given))
        if fit is None:
            return
        text, level = f'{start.checkpoint}: {fit.message(given)}', logging.INFO
        if not fit.fits(given):
            text += ': ' + fit.best.cfg_options(config.data_preprocessor)
            level = logging.WARNING
        runner.logger.log(level, text)
