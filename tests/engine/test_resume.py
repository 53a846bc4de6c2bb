"""A run that goes on is the run that was stopped."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import nn

from mmdet_shufflenetv2.engine import CheckedRunner


class Line(BaseModel):
    """Learns a slope; remembers the weight of each of its steps."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, inputs, mode='loss'):
        self.seen.append(self.weight.item())
        return dict(loss=((self.weight * inputs - 3 * inputs) ** 2).mean())


def settings(work_dir, epochs, **more) -> Config:
    return Config(
        dict(
            work_dir=str(work_dir),
            train_dataloader=dict(
                dataset=[torch.ones(1)] * 4,
                sampler=dict(type='DefaultSampler', shuffle=False),
                batch_size=1,
            ),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
            param_scheduler=dict(
                type='CosineAnnealingLR',
                by_epoch=True,
                convert_to_iter_based=True,
            ),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', interval=1)
            ),
            **more,
        )
    )


def run(work_dir, epochs, name, **more):
    cfg = settings(work_dir, epochs, **more)
    model = Line()
    options = copy.deepcopy(cfg.to_dict())
    options.pop('work_dir')
    runner = CheckedRunner(
        model,
        str(work_dir),
        **options,
        cfg=cfg,
        experiment_name=f'{work_dir.name}_{name}',
    )
    runner.train()
    return model, runner


def resumed(tmp_path, epochs, name, **more):
    return run(
        tmp_path,
        epochs,
        name,
        resume=True,
        load_from=str(tmp_path / 'epoch_2.pth'),
        **more,
    )


@pytest.mark.parametrize('hooks', [[], [dict(type='EMAHook', momentum=0.3)]])
def test_training_goes_on_from_the_weights_that_were_trained(hooks, tmp_path):
    """Not from the averaged ones, which EMAHook saves for tests."""
    whole, _ = run(tmp_path, 4, 'whole', custom_hooks=hooks)
    rest, _ = resumed(tmp_path, 4, 'rest', custom_hooks=hooks)
    assert rest.seen == pytest.approx(whole.seen[8:], abs=1e-6)
    assert rest.weight.item() == pytest.approx(whole.weight.item(), abs=1e-6)


@pytest.mark.parametrize('epochs', [3, 8])
def test_another_length_moves_the_rate_to_its_place(epochs, tmp_path):
    run(tmp_path, 4, 'first')
    _, whole = run(tmp_path / 'whole', epochs, 'whole')
    _, longer = resumed(tmp_path, epochs, 'longer')
    rates = [
        list(each.message_hub.get_scalar('train/lr').data[0])
        for each in (whole, longer)
    ]
    assert rates[1][-4:] == pytest.approx(rates[0][-4:], rel=1e-4, abs=1e-9)


def test_a_finished_run_says_that_nothing_is_left(tmp_path):
    run(tmp_path, 2, 'first')
    model, runner = resumed(tmp_path, 2, 'again')
    assert model.seen == []
    log = next((tmp_path).glob(f'{runner.timestamp}/*.log')).read_text()
    assert 'has all 8 iterations: nothing is left to train' in log
