import errno
import sys

import pytest
import torch.distributed as dist
from mmdet.registry import MODELS

from mmdet_shufflenetv2.engine.command_line import (
    add_common_arguments,
    add_data_arguments,
    make_parser,
    parse_run,
    reporting_errors,
)


@pytest.fixture
def parse(monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['tool', *arguments])
        parser = make_parser('What it does.')
        add_common_arguments(parser)
        add_data_arguments(parser)
        return parse_run(parser)

    return run


@pytest.mark.parametrize(
    'option', ['--train-ann', '--train-img', '--val-ann', '--val-img']
)
def test_names_of_a_data_set_need_its_root(parse, capsys, option):
    with pytest.raises(SystemExit) as stopped:
        parse(option, 'name')
    assert stopped.value.code == 2
    assert f'{option} needs --data-root' in capsys.readouterr().err
    args = parse(option, 'name', '--data-root', 'folder')
    assert args.data_root == 'folder'


def test_help_names_the_folders_of_either_task(parse, capsys):
    with pytest.raises(SystemExit):
        parse('--help')
    words = ' '.join(capsys.readouterr().out.split())
    assert 'train/<class>/<image>' in words
    assert 'COCO format' in words


@pytest.mark.parametrize(
    'launcher, variable, starter',
    [
        ('pytorch', 'RANK', 'torchrun'),
        ('slurm', 'SLURM_PROCID', 'srun'),
        ('mpi', 'OMPI_COMM_WORLD_LOCAL_RANK', 'mpirun'),
    ],
)
def test_launcher_that_started_nothing_is_refused(
    parse, capsys, monkeypatch, launcher, variable, starter
):
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(SystemExit) as stopped:
        parse('--launcher', launcher)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert starter in message
    assert f'{variable} is not set' in message
    monkeypatch.setenv(variable, '0')
    assert parse('--launcher', launcher).launcher == launcher


def test_option_without_a_value_is_named(parse, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse('--cfg-options', 'train_cfg.max_epochs=2', 'batch')
    assert stopped.value.code == 2
    assert "expected KEY=VALUE, got 'batch'" in capsys.readouterr().err
    args = parse('--cfg-options', 'train_cfg.max_epochs=2')
    assert args.cfg_options == {'train_cfg.max_epochs': 2}


def test_full_disk_is_one_message(capsys):
    def main():
        raise OSError(errno.ENOSPC, 'No space left on device', 'epoch_1.pth')

    with pytest.raises(SystemExit) as stopped:
        reporting_errors(main)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message == 'error: epoch_1.pth: No space left on device\n'


def test_error_of_the_system_without_a_file_keeps_its_traceback():
    def main():
        raise ConnectionResetError(errno.ECONNRESET, 'reset by peer')

    with pytest.raises(ConnectionResetError):
        reporting_errors(main)


def test_ctrl_c_anywhere_is_one_message(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        reporting_errors(main)
    assert stopped.value.code == 130
    assert capsys.readouterr().err == '\nstopped\n'


def test_a_command_leaves_its_process_group(tmp_path):
    def main():
        dist.init_process_group(
            'gloo', f'file://{tmp_path}/store', rank=0, world_size=1
        )

    reporting_errors(main)
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    'entry, message',
    [
        (dict(widen_factr=1.0), "keyword argument 'widen_factr'"),
        (dict(type='ShuffleNetV3'), 'ShuffleNetV3 is not in the mmdet::model'),
        (dict(widen_factor=3.0), 'widen_factor of arch'),
    ],
)
def test_entry_of_a_config_that_cannot_be_built_is_one_message(
    capsys, entry, message
):
    def main():
        MODELS.build({'type': 'ShuffleNetV2', **entry})

    with pytest.raises(SystemExit) as stopped:
        reporting_errors(main)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith('error: in the config: ')
    assert message in error


def test_network_of_an_absent_library_is_one_message(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pytorchcv.models.igcv3', None)
    config = dict(type='PytorchcvBackbone', arch='igcv3_d_x1_0')
    with pytest.raises(SystemExit) as stopped:
        reporting_errors(lambda: MODELS.build(config))
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: arch 'igcv3_d_x1_0' is a network of")
    assert 'pip install' in message
    assert message.count('\n') == 1


def test_error_inside_of_a_class_keeps_its_traceback(monkeypatch):
    def broken():
        return len(None)

    monkeypatch.setitem(MODELS.module_dict, 'Broken', broken)
    with pytest.raises(TypeError, match='NoneType'):
        reporting_errors(lambda: MODELS.build(dict(type='Broken')))
