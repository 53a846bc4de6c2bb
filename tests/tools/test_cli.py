"""What all commands share: options, launchers, errors shown as a message."""

import argparse
import errno
import sys
from unittest.mock import Mock

import pytest
import torch
from mmdet.registry import MODELS

from mmdet_shufflenetv2 import cli
from mmdet_shufflenetv2.cli import options
from mmdet_shufflenetv2.cli.options import LAUNCHERS
from mmdet_shufflenetv2.engine import settings
from mmdet_shufflenetv2.errors import UserError


def parse(*arguments):
    parser = argparse.ArgumentParser()
    options.add_run_options(parser)
    args = parser.parse_args(arguments)
    options.check_run_options(args)
    return args


@pytest.mark.parametrize(
    'kind, text, value, wrong',
    [
        (options.whole_number, '0', 0, ['-1', '1.0']),
        (options.positive_int, '12', 12, ['0', '-1', 'two']),
        (options.positive_number, '1e1', 10.0, ['0.0', '-3', 'nan', 'inf']),
        (options.share, '0.2', 0.2, ['0', '1', '20']),
        (options.image_size, '64x48', (64, 48), ['640', '0x0', '640x4']),
        (options.key_and_value, 'a.b=2', 'a.b=2', ['batch']),
    ],
)
def test_texts_become_values_or_errors_that_say_what_is_expected(
    kind, text, value, wrong
):
    assert kind(text) == value
    for other in wrong:
        with pytest.raises(argparse.ArgumentTypeError, match=r'expected.*got'):
            kind(other)


@pytest.mark.parametrize(
    'option', [('--val-img', 'name'), ('--val-fraction', '0.3')]
)
def test_options_of_a_data_set_need_its_root(option):
    with pytest.raises(UserError, match=f'{option[0]} needs --data-root'):
        parse(*option)
    assert parse(*option, '--data-root', 'x').data_root == 'x'


def test_validation_data_are_named_or_held_out_but_not_both(capsys):
    with pytest.raises(SystemExit):
        parse('--data-root', 'x', '--val-ann', 'a', '--val-fraction', '0.3')
    said = '--val-fraction: not allowed with argument --val-ann'
    assert said in capsys.readouterr().err


@pytest.fixture
def unlaunched(monkeypatch):
    for names in LAUNCHERS.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)


def test_launcher_that_another_one_started_counts(unlaunched, monkeypatch):
    # The script of a job may set this one for other programs.
    monkeypatch.setenv('WORLD_SIZE', '2')
    for launcher in 'slurm', 'mpi', 'pytorch':
        for name in LAUNCHERS[launcher]:
            monkeypatch.setenv(name, '2')
        assert parse().launcher == launcher


@pytest.mark.parametrize('launcher', LAUNCHERS)
def test_launcher_is_the_one_that_started_this_process(
    launcher, unlaunched, monkeypatch
):
    variable, count = LAUNCHERS[launcher]
    assert parse().launcher == 'none'
    with pytest.raises(UserError, match=f'--launcher {launcher}: expected'):
        parse('--launcher', launcher)
    monkeypatch.setenv(variable, '1')
    assert parse('--launcher', launcher).launcher == launcher
    monkeypatch.setenv(count, '2')
    assert parse().launcher == launcher
    with pytest.raises(UserError, match=f'expected .* is {launcher}'):
        parse('--launcher', 'none')


def shown(capsys, run, code=2):
    with pytest.raises(SystemExit) as stopped:
        cli.report_errors(run)
    assert stopped.value.code == code
    return capsys.readouterr().err


def raising(error):
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    'error, message',
    [
        (UserError('not there'), 'not there'),
        (OSError(errno.ENOSPC, 'No space left', 'a.pth'),
         'a.pth: No space left'),
        (FileNotFoundError('a.pth can not be found.'),
         'a.pth can not be found.'),
        (UserError('Caught UserError in DataLoader worker process 0.\n'
                   'Original Traceback (most recent call last):\n  File "a"\n'
                   'mmdet_shufflenetv2.errors.UserError: a.jpg is empty\n'),
         'a.jpg is empty'),
    ],
)  # fmt: skip
def test_expected_error_is_one_message(capsys, error, message):
    assert shown(capsys, raising(error)) == f'error: {message}\n'


def test_a_bug_keeps_its_traceback_and_ctrl_c_is_one_message(
    capsys, monkeypatch
):
    bug = ConnectionResetError(errno.ECONNRESET, 'reset by peer')
    with pytest.raises(ConnectionResetError):
        cli.report_errors(raising(bug))
    assert shown(capsys, raising(KeyboardInterrupt()), 130) == '\nstopped\n'
    error = SyntaxError('Failed to format the config file')
    error.__context__ = KeyboardInterrupt()
    assert shown(capsys, raising(error), 130) == '\nstopped\n'
    name, command = 'mmdet_shufflenetv2.cli.report', Mock()
    command.add_arguments.side_effect = KeyboardInterrupt
    monkeypatch.setitem(sys.modules, name, command)
    with pytest.raises(SystemExit, match='130'):
        cli.main('report', [])


CUSTOM = 'configs/lighthead_shufflenetv2_custom.py'


@pytest.mark.parametrize(
    'line, message',
    [
        ('train no_such_config.py', 'config not found: no_such_config.py'),
        (f'train {CUSTOM} --data-root nowhere', 'nowhere is not a folder'),
        (f'train {CUSTOM} --work-dir /proc/nothing',
         'cannot write to the work dir /proc/nothing'),
        ('train configs/lighthead_shufflenetv2.py', 'tools/prepare_coco.py'),
        (f'test {CUSTOM} nowhere.pth', 'nowhere.pth'),
        (f'test {CUSTOM} results.pkl', 'results.pkl is a pickle'),
        (f'test {CUSTOM} x.pth --out /proc/nothing/r.pkl',
         'cannot write to the folder of r.pkl, /proc/nothing'),
        (f'test {CUSTOM} x.onnx --eval proposal',
         'need a checkpoint, got x.onnx'),
        (f'test {CUSTOM} x.onnx --image-size 64x64',
         'a checkpoint, got x.onnx'),
        ('predict *.gif x.pth', 'no image or video found'),
        ('predict a.png a.png --device none_such', 'device none_such'),
        ('predict a.png x.pth --save video', 'expected a video'),
        ('predict a.png configs/demo/pretrain_shufflenetv2_shapes.py x.pth',
         'got a classifier'),
        ('benchmark backbones --network resnet --out x.csv',
         'network: expected a published'),
        ('check .', 'no annotations for train'),
        ('prepare_coco --data-root coco',
         'coco holds no complete COCO data set'),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_message_and_leave_nothing(
    line, message, here, tmp_path, monkeypatch
):
    monkeypatch.setattr(settings, 'fetch_weights', lambda name: None)
    (tmp_path / 'a.png').touch()
    torch.save({}, tmp_path / 'x.pth')
    said = here(*line.split(), code=2, cwd=tmp_path)
    assert said.count('error: ') == 1
    assert message in said.partition('error: ')[2]
    assert {path.name for path in tmp_path.iterdir()} == {'a.png', 'x.pth'}


@pytest.mark.parametrize(
    'entry',
    [
        dict(type='ShuffleNetV3'),
        dict(type='ShuffleNetV2', widen_factr=1.0),
        dict(type='ShuffleNetV2', widen_factor=3.0),
    ],
)
def test_entry_of_a_config_that_cannot_be_built_is_one_message(capsys, entry):
    error = shown(capsys, lambda: MODELS.build(entry))
    assert error.startswith('error: in the config: ')


def test_console_lists_commands_and_runs_them_by_each_name(capsys):
    cli.console([])
    listed = capsys.readouterr().out
    for name in 'train', 'test', 'predict', 'demo':
        assert f'  {name} ' in listed
    with pytest.raises(SystemExit, match=r"one of .*train.*, got 'trian'"):
        cli.console(['trian'])
    for name in 'predict', 'demo':
        with pytest.raises(SystemExit):
            cli.console([name, 'a.jpg', 'a.pth'])
        assert 'a.jpg: no image or video' in capsys.readouterr().err


def test_a_command_with_implied_arguments_shows_how_it_is_called(capsys):
    with pytest.raises(SystemExit):
        cli.console(['guidelines', '--help'])
    usage = 'usage: mmdet-shufflenetv2 benchmark guidelines [-h]'
    assert capsys.readouterr().out.startswith(usage)
    with pytest.raises(SystemExit):
        cli.main('guidelines', ['--help'])
    usage = 'usage: benchmark.py guidelines [-h]'
    assert capsys.readouterr().out.startswith(usage)


def test_every_door_in_tools_calls_a_command(root):
    for door in (root / 'tools').glob('*.py'):
        assert f"main('{door.stem}')" in door.read_text()
        assert door.stem in cli.list_commands()
