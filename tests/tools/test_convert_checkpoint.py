"""``tools/convert_checkpoint.py`` as its users call it."""

import torch
from torchvision import models


def test_converts_there_and_back(here, tmp_path):
    theirs, ours, back = (
        tmp_path / f'{name}.pth' for name in ('theirs', 'ours', 'back')
    )
    weights = models.shufflenet_v2_x0_5().state_dict()
    torch.save(weights, theirs)
    said = here('convert_checkpoint', theirs, ours)
    assert 'shufflenet_v2_x0_5, style torchvision' in said
    assert 'expected input: RGB, mean=' in said
    said = here('convert_checkpoint', theirs, ours, code=2)
    assert 'overwrite it with --force' in said
    here('convert_checkpoint', ours, back, '--to', 'torchvision')
    again = torch.load(back, weights_only=True)
    assert list(again) == list(weights)
    assert all(torch.equal(again[key], weights[key]) for key in weights)
