import argparse
import json
import os
import subprocess
import sys

import pytest

from mmdet_shufflenetv2.analysis import roofline
from mmdet_shufflenetv2.cli import analyze as command
from mmdet_shufflenetv2.errors import UserError

NETWORK = ['shufflenet_v2_x0_5', '--size', '64x32', '--threads', '1']


def parse(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(map(str, arguments)))


def run(*arguments):
    command.run(parse(*arguments))


@pytest.fixture
def small_machine(monkeypatch):
    """Peaks that take no time to measure."""
    monkeypatch.setattr(roofline, '_MATRIX_SIDES', (8,))
    monkeypatch.setattr(roofline, '_COPIED', (2**10, 2**12))


def test_everything_is_written_and_advice_comes_first(
    tmp_path, capsys, small_machine
):
    folder = tmp_path / 'new' / 'out'
    run(*NETWORK, '--quick', '--samples', 1, '--out-dir', folder)
    said = capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {
        *('report.txt', 'layers.csv', 'analysis.json', 'analysis.png'),
        'trace.json',
    }
    assert said.index('What would help') < said.index('Slowest of')
    found = json.loads((folder / 'analysis.json').read_text())
    # 40.5 M multiply-adds at 224x224 but for the classifier's.
    convolutions = 40_476_448 - 1024 * 1000
    assert found['flops'] == pytest.approx(
        convolutions * 32 * 64 / 224**2 + 1024 * 1000, rel=0.02
    )
    assert found['size'] == [32, 64]
    fields = found['receptive_fields']
    assert list(fields) == ['stage2', 'stage3', 'stage4', 'conv5']
    assert [each['stride'] for each in fields.values()] == [
        [8, 8],
        [16, 16],
        [32, 32],
        [32, 32],
    ]
    assert all(each['effective_size'] for each in fields.values())
    assert found['problems'] == []
    assert {each['name'] for each in found['alternatives']} >= {
        'batch norm folded',
        'channels-last',
    }
    assert not any(each['problem'] for each in found['alternatives'])
    kinds = {row['kind'] for row in found['layers']}
    assert kinds >= {'convolution', 'shuffle', 'element-wise'}


def test_a_file_that_cannot_be_written_costs_no_other(
    analysis, tmp_path, monkeypatch, capsys
):
    def fail(*_):
        raise UserError('the picture needs matplotlib')

    name = 'analysis.png'
    monkeypatch.setitem(command.OUTPUTS, name, ('', fail))
    with pytest.raises(UserError, match=f'{name} is not written: the pict'):
        command.write_all(analysis, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*command.OUTPUTS} - {
        name
    }


def test_a_detector_is_analysed_to_its_detections(
    tmp_path, root, small_machine, capsys
):
    config = root / 'configs' / 'lighthead_shufflenetv2_x0_5.py'
    run(
        *(config, '--size', '96x64', '--threads', 1, '--quick'),
        *('--samples', 0, '--out-dir', tmp_path),
    )
    said = capsys.readouterr().out
    assert 'random weights: the score threshold was set to' in said
    found = json.loads((tmp_path / 'analysis.json').read_text())
    assert found['problems'] == []
    assert len(found['detections']) == 1
    assert found['kinds_ms']['post-processing'] > 0
    assert {'stage3', 'conv5', 'neck 0'} <= set(found['receptive_fields'])


@pytest.mark.parametrize(
    'arguments',
    [('--size', '800'), ('--threads', '-1'), ('--seconds', 'nan')],
)
def test_wrong_numbers_are_refused_by_their_option(arguments, capsys):
    with pytest.raises(SystemExit):
        parse('net', *arguments)
    assert f'argument {arguments[0]}' in capsys.readouterr().err


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--device', 'tpu'], "got 'tpu'"),
        (['--device', 'meta'], "got 'meta'"),
        (['--quick', '--record', 'a.csv'], 'a --quick look is not worth'),
        (['--out-dir', '/dev/null/a'], 'cannot write to the output folder'),
    ],
)
def test_wrong_arguments_are_answered_in_a_sentence(arguments, words):
    with pytest.raises(UserError, match=words):
        run(*NETWORK, *arguments)


def test_an_absent_mmdet_is_one_clear_line(root):
    code = (
        'import sys\n'
        "absent = ('mmdet', 'mmengine', 'mmcv', 'mmpretrain')\n"
        'sys.modules.update(dict.fromkeys(absent))\n'
        'from mmdet_shufflenetv2.cli import main\n'
        "main('analyze', ['shufflenet_v2_x0_5'])\n"
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(root)},
    )
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    assert done.stderr.startswith('error: mmdet is not installed')


def test_memory_that_runs_out_in_the_middle_is_told_as_such(
    tmp_path, monkeypatch
):
    def analyze(*_, **__):
        raise RuntimeError('DefaultCPUAllocator: not enough memory: you tried')

    monkeypatch.setattr(command, 'analyze', analyze)
    with pytest.raises(UserError, match='does not fit in memory'):
        run(*NETWORK, '--out-dir', tmp_path)
    assert not list(tmp_path.iterdir())
