"""``tools/convert_checkpoint.py`` as its users call it."""

import torch
from torchvision import models


def test_converts_and_overwrites_on_request_only(here, tmp_path):
    theirs, ours = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    weights = models.shufflenet_v2_x0_5().state_dict()
    torch.save(weights, theirs)
    said = here('convert_checkpoint', theirs, ours)
    assert 'shufflenet_v2_x0_5, style torchvision' in said
    assert 'expected input: RGB, mean=' in said
    said = here('convert_checkpoint', theirs, ours, code=2)
    assert 'overwrite it with --force' in said
    here('convert_checkpoint', theirs, ours, '--to', 'torchvision', '--force')
    assert torch.load(ours, weights_only=True).keys() == weights.keys()
