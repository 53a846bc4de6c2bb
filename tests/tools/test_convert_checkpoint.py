"""``tools/convert_checkpoint.py`` as its users run it."""

import torch
from torchvision import models


def test_converts_there_and_back(command, tmp_path):
    theirs, ours, back = (
        tmp_path / f'{name}.pth' for name in ('theirs', 'ours', 'back')
    )
    weights = models.shufflenet_v2_x0_5().state_dict()
    torch.save(weights, theirs)
    finished = command('convert_checkpoint', theirs, ours)
    assert 'shufflenet_v2_x0_5, style torchvision' in finished.stdout
    assert 'images it expects: RGB, mean=' in finished.stdout
    finished = command('convert_checkpoint', theirs, ours, code=2)
    assert '--force overwrites' in finished.stderr
    command('convert_checkpoint', ours, back, '--to', 'torchvision')
    again = torch.load(back, weights_only=True)
    assert list(again) == list(weights)
    assert all(torch.equal(again[key], weights[key]) for key in weights)


def test_a_broken_file_is_one_message(command, tmp_path):
    path = tmp_path / 'broken.pth'
    path.write_bytes(b'nothing')
    target = tmp_path / 'out.pth'
    finished = command('convert_checkpoint', path, target, code=2)
    assert f'checkpoint {path} cannot be read' in finished.stderr
    assert 'Traceback' not in finished.stderr
    assert not target.exists()
