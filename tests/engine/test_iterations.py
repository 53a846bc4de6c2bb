"""Endless data, and going on in the middle of it."""

from itertools import islice

import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmdet_shufflenetv2.engine import iterations
from mmdet_shufflenetv2.engine.iterations import EndlessSampler


def first(sampler, count: int) -> list[int]:
    return list(islice(sampler, count))


@pytest.fixture
def ranks(monkeypatch):
    """Samplers of several processes over the same 10 images."""

    def make(world_size: int) -> list[EndlessSampler]:
        samplers = []
        for rank in range(world_size):
            monkeypatch.setattr(
                iterations, 'get_dist_info', lambda r=rank: (r, world_size)
            )
            samplers.append(EndlessSampler(range(10), seed=3))
        return samplers

    return make


@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_processes_share_passes_and_start_anywhere(ranks, world_size):
    alone = first(ranks(1)[0], 60)
    passes = [alone[at : at + 10] for at in range(0, 60, 10)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert len(set(map(tuple, passes))) == 6
    shares = [first(s, 60 // world_size) for s in ranks(world_size)]
    dealt = [index for turn in zip(*shares, strict=True) for index in turn]
    assert dealt == alone
    for sampler, share in zip(ranks(world_size), shares, strict=True):
        sampler.start = 7
        assert first(sampler, len(share) - 7) == share[7:]


class Numbers(list):
    """Image i is the number i; says which were read."""

    def __init__(self):
        super().__init__(range(10))
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        return torch.tensor([float(index)])


class Model(torch.nn.Linear):
    """Learns nothing, keeps what it was fed."""

    def __init__(self):
        super().__init__(1, 1)
        self.seen = []

    def train_step(self, data, optim_wrapper):
        self.seen.append(data.flatten().tolist())
        return dict(loss=torch.zeros(()))


def run_from(iteration: int, tmp_path) -> tuple[list, list]:
    """Batches fed and images read from an iteration to the seventh."""
    dataset = Numbers()
    loader = DataLoader(
        dataset, batch_size=2, sampler=EndlessSampler(dataset, seed=5)
    )
    runner = Runner(
        Model(),
        str(tmp_path),
        train_dataloader=loader,
        train_cfg=dict(type='ResumableIterLoop', max_iters=7),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(logger=None, checkpoint=None, timer=None),
        experiment_name=f'from_{iteration}_{tmp_path.name}',
    )
    loop = runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    loop._iter = iteration
    loop.run()
    return runner.model.seen, dataset.read


def test_resumed_run_reads_only_what_it_had_not(tmp_path):
    whole, _ = run_from(0, tmp_path)
    rest, read = run_from(4, tmp_path)
    assert rest == whole[4:]
    assert read == [int(i) for batch in rest for i in batch]
