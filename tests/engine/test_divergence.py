"""A run that diverges stops at once and keeps its good checkpoints."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mmdet_shufflenetv2.cli import report_errors as reporting_errors
from mmdet_shufflenetv2.engine import CheckedRunner
from mmdet_shufflenetv2.engine.divergence import (
    AMP_PATIENCE,
    DivergenceHook,
    TrainingDiverged,
)


class Line(BaseModel):
    """Its loss, or its weight after the step, is spoiled in one iteration."""

    def __init__(self, bad_loss=None, bad_weight=None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.bad_loss, self.bad_weight = bad_loss, bad_weight
        self.steps = 0

    def forward(self, inputs, mode):
        spoiled = float('inf') if self.steps == self.bad_loss else 1.0
        return dict(
            loss_a=self.weight * spoiled,
            loss_b=self.weight * 1.0,
            acc=torch.tensor(float('nan')),
        )

    def train_step(self, data, optim_wrapper):
        self.steps += 1
        outputs = super().train_step(data, optim_wrapper)
        if self.steps == self.bad_weight:
            self.weight.data.fill_(float('nan'))
        return outputs


def runner(tmp_path, **model):
    """Two epochs of two iterations each."""
    return CheckedRunner(
        Line(**model),
        str(tmp_path),
        train_dataloader=dict(
            dataset=[torch.zeros(1)] * 2,
            sampler=dict(type='DefaultSampler'),
            batch_size=1,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        experiment_name=f'{tmp_path.name}_{id(model)}',
        cfg=dict(optim_wrapper=dict(optimizer=dict(lr=0.01))),
    )


def test_bad_loss_is_named_with_its_iteration_checkpoint_and_advice(
    tmp_path, capsys
):
    run = runner(tmp_path, bad_loss=3)
    with pytest.raises(SystemExit) as stopped:
        reporting_errors(run.train)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert error.startswith('error: loss_a is inf in iteration 3; ')
    assert 'loss_b' not in error
    assert f'the last whole checkpoint is {tmp_path}/epoch_1.pth' in error
    assert 'optim_wrapper.optimizer.lr=0.0025 (now 0.01)' in error
    assert 'warm-up' in error
    assert 'clip_grad' in error
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert torch.isfinite(saved['state_dict']['weight']).all()


def test_run_of_good_losses_ends_whatever_its_other_figures_are(tmp_path):
    runner(tmp_path).train()
    assert (tmp_path / 'epoch_2.pth').is_file()


def test_weights_spoiled_by_the_last_step_of_an_epoch_are_not_saved(tmp_path):
    run = runner(tmp_path, bad_weight=2)
    with pytest.raises(TrainingDiverged, match='such as weight') as error:
        run.train()
    assert 'no checkpoint was written yet' in str(error.value)
    assert not list(tmp_path.glob('*.pth'))


def test_mixed_precision_may_leave_out_steps_but_not_for_ever(tmp_path):
    run = runner(tmp_path)
    run.optim_wrapper = run.build_optim_wrapper(run.optim_wrapper)
    run.optim_wrapper.loss_scaler = 'dynamic'
    run._train_loop = run.build_train_loop(run._train_loop)
    hook = DivergenceHook()
    bad, good = ({'loss': torch.tensor(v)} for v in (float('nan'), 1.0))
    for outputs in [*[bad] * AMP_PATIENCE, good, *[bad] * AMP_PATIENCE]:
        hook.after_train_iter(run, 0, None, outputs)
    with pytest.raises(TrainingDiverged):
        hook.after_train_iter(run, 0, None, bad)
