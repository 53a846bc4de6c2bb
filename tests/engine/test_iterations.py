"""Endless data, and going on in the middle of it."""

from itertools import islice

import pytest
import torch
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from mmdet_shufflenetv2.engine import iterations
from mmdet_shufflenetv2.engine.iterations import (
    EndlessSampler,
    ResumableIterLoop,
)


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


def test_every_pass_has_every_image_in_another_order():
    found = first(EndlessSampler(range(10), seed=3), 40)
    passes = [found[at : at + 10] for at in range(0, 40, 10)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert len(set(map(tuple, passes))) == 4


@pytest.mark.parametrize('world_size', [1, 2, 3, 4])
def test_processes_share_the_images_of_one_process(ranks, world_size):
    alone = first(ranks(1)[0], 60)
    shares = [first(s, 60 // world_size) for s in ranks(world_size)]
    dealt = [index for turn in zip(*shares, strict=True) for index in turn]
    assert dealt == alone


@pytest.mark.parametrize('start', [1, 9, 10, 37])
@pytest.mark.parametrize('world_size', [1, 3])
def test_started_later_it_gives_what_comes_then(ranks, start, world_size):
    for sampler, later in zip(
        ranks(world_size), ranks(world_size), strict=True
    ):
        later.start = start
        assert first(later, 25) == first(sampler, start + 25)[start:]


def test_seed_decides_the_order():
    orders = {
        tuple(first(EndlessSampler(range(10), seed=seed), 20))
        for seed in (1, 2, 3)
    }
    assert len(orders) == 3


def test_sampler_is_found_by_its_name():
    sampler = DATA_SAMPLERS.build(
        dict(type='EndlessSampler', dataset=range(10), seed=1)
    )
    assert len(sampler) == 10


class Numbers(Dataset):
    """Image i is the number i; says which were read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 10

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
    loop = runner.build_train_loop(runner._train_loop)
    assert isinstance(loop, ResumableIterLoop)
    runner._train_loop = loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    loop._iter = iteration
    loop.run()
    return runner.model.seen, dataset.read


def test_resumed_run_reads_only_what_it_had_not(tmp_path):
    whole, _ = run_from(0, tmp_path)
    rest, read = run_from(4, tmp_path)
    assert rest == whole[4:]
    assert read == [int(i) for batch in rest for i in batch]
