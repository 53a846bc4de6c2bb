"""Configs, files of weights, and runs of a model that learns a slope."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import nn

from mmdet_shufflenetv2.engine import CheckedRunner, run_config


@pytest.fixture
def load(root):
    """Read a config by its path in the project."""

    def read(path, *args, **options):
        return run_config.load_config(str(root / path), *args, **options)

    return read


@pytest.fixture
def saved(written):
    """Save what a checkpoint holds; give its path."""
    return lambda state, **meta: written(dict(state_dict=state, meta=meta))


class Line(BaseModel):
    """Learns a slope; remembers the weight and the image of each step."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen, self.images = [], []

    def forward(self, inputs, mode='loss'):
        self.seen.append(self.weight.item())
        self.images.append(inputs.flatten().tolist())
        return dict(loss_a=((self.weight * inputs - 3 * inputs) ** 2).mean())


@pytest.fixture
def line_run(tmp_path):
    """Make a runner of some epochs of four steps, or as it is told."""
    names = iter(range(9))

    def make(epochs=2, model=None, runner=CheckedRunner, **changes):
        options = dict(
            work_dir=str(tmp_path),
            train_dataloader=dict(
                dataset=[torch.ones(1)] * 4,
                sampler=dict(type='DefaultSampler', shuffle=False),
                batch_size=1,
            ),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', interval=1)
            ),
            experiment_name=f'{tmp_path.name}_{next(names)}',
        )
        options |= changes
        if runner is CheckedRunner:
            options['cfg'] = Config(copy.deepcopy(options))
        return runner(model or Line(), **options)

    return make
