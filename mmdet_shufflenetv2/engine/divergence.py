"""Training that diverges stops at once and spoils no checkpoint.

A loss or weight that is NaN or infinite stays so, but mmengine trains on and
replaces the last good checkpoints by useless ones.
"""

import math
import os

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..errors import UserError

#: Unusable steps in a row that mixed precision may take: it leaves the
#: weights alone and halves its scale each time, from 65536 down.
AMP_PATIENCE = 32


class TrainingDiverged(UserError):
    """The losses or weights of a run are NaN or infinite."""


class DivergenceHook(Hook):
    """Stop a run whose losses or weights are NaN or infinite.

    Raises:
        TrainingDiverged: Says which loss, in which iteration, which
            checkpoint is the last good one, and what to try.
    """

    def __init__(self) -> None:
        self._bad_in_a_row = 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Look at every loss, which the log has fetched already."""
        losses = {k: v.item() for k, v in outputs.items() if 'loss' in k}
        bad = {k: v for k, v in losses.items() if not math.isfinite(v)}
        if not bad:
            self._bad_in_a_row = 0
            return
        self._bad_in_a_row += 1
        if len(bad) > 1:
            del bad['loss']  # the sum of the others
        # Mixed precision leaves such a step out, and goes on.
        scaled = hasattr(runner.optim_wrapper, 'loss_scaler')
        if self._bad_in_a_row > (AMP_PATIENCE if scaled else 0):
            raise TrainingDiverged(
                f'{", ".join(f"{k} is {v}" for k, v in bad.items())} in '
                f'iteration {runner.iter + 1}; {advice(runner)}'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse weights that a last step has spoiled after its loss."""
        bad = [
            name
            for name, value in checkpoint['state_dict'].items()
            if isinstance(value, torch.Tensor)
            and not torch.isfinite(value).all()
        ]
        if bad:
            raise TrainingDiverged(
                f'{len(bad)} weights are NaN or infinite after iteration '
                f'{runner.iter}, such as {bad[0]}, and are not saved; '
                + advice(runner)
            )


def last_checkpoint(work_dir: str) -> str:
    """Say which checkpoint of a work dir a run can go on from."""
    note = os.path.join(work_dir, 'last_checkpoint')
    if not os.path.isfile(note):
        return 'no checkpoint was written yet'
    with open(note) as file:
        return f'the last whole checkpoint is {file.read().strip()}'


def advice(runner: Runner) -> str:
    """What to try after a run diverged.

    Resuming takes the learning rate from the checkpoint, so it is no help.
    """
    rate = runner.cfg.get('optim_wrapper', {}).get('optimizer', {}).get('lr')
    lower = 'X' if rate is None else f'{rate / 4:g} (now {rate:g})'
    return (
        f'{last_checkpoint(runner.work_dir)}. Start again, or from its '
        "weights with --cfg-options load_from='...', and try a lower "
        f'learning rate: optim_wrapper.optimizer.lr={lower}, a longer '
        'warm-up: param_scheduler.0.end=N, or shorter steps: '
        'optim_wrapper.clip_grad.max_norm=N'
    )
