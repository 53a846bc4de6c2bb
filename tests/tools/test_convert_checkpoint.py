"""``tools/convert_checkpoint.py`` as its users call it."""

import pytest
import torch
from torchvision import models

from mmdet_shufflenetv2.cli import main


@pytest.fixture
def convert(capsys):
    """Run the command in this process; give its exit code and output."""

    def run(*arguments):
        try:
            main('convert_checkpoint', list(map(str, arguments)))
        except SystemExit as stopped:
            return stopped.code, capsys.readouterr()
        return 0, capsys.readouterr()

    return run


def test_converts_there_and_back(convert, tmp_path):
    theirs, ours, back = (
        tmp_path / f'{name}.pth' for name in ('theirs', 'ours', 'back')
    )
    weights = models.shufflenet_v2_x0_5().state_dict()
    torch.save(weights, theirs)
    code, output = convert(theirs, ours)
    assert code == 0
    assert 'shufflenet_v2_x0_5, style torchvision' in output.out
    assert 'images it expects: RGB, mean=' in output.out
    code, output = convert(theirs, ours)
    assert code == 2
    assert '--force overwrites' in output.err
    assert convert(ours, back, '--to', 'torchvision')[0] == 0
    again = torch.load(back, weights_only=True)
    assert list(again) == list(weights)
    assert all(torch.equal(again[key], weights[key]) for key in weights)


def test_a_broken_file_is_one_message(convert, tmp_path):
    path = tmp_path / 'broken.pth'
    path.write_bytes(b'nothing')
    code, output = convert(path, tmp_path / 'out.pth')
    assert code == 2
    assert f'error: checkpoint {path} cannot be read' in output.err
    assert not (tmp_path / 'out.pth').exists()


def test_a_file_with_code_is_refused(convert, tmp_path):
    class Malicious:
        def __reduce__(self):
            return (exec, ('raise SystemExit("ran")',))

    path = tmp_path / 'bad.pth'
    torch.save({'state_dict': Malicious()}, path)
    code, output = convert(path, tmp_path / 'out.pth')
    assert code == 2
    assert 'is refused' in output.err
