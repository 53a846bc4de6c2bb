import subprocess

import pytest
import torch

from mmdet_shufflenetv2 import __version__
from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.measure.environment import (
    CIRCUMSTANCES,
    commit,
    cpu_name,
    describe,
)
from mmdet_shufflenetv2.measure.setting import (
    PRECISIONS,
    Setting,
    require_device,
)


@pytest.fixture(autouse=True)
def as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def test_threads_are_set_and_denormal_numbers_cost_nothing():
    Setting(threads=3).apply()
    assert torch.get_num_threads() == 3
    assert (torch.tensor([1e-40]) * 1).item() == 0


@pytest.mark.gpu
@pytest.mark.parametrize('precision', PRECISIONS)
def test_tf32_is_used_when_asked_for_only(precision):
    Setting(device='cuda', precision=precision).apply()
    wanted = precision == 'tf32'
    assert torch.backends.cudnn.allow_tf32 == wanted
    assert torch.backends.cuda.matmul.allow_tf32 == wanted


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(precision='int8'), 'precision must be one of'),
        (dict(layout='nhwc'), 'layout must be one of'),
        (dict(mode='onnx'), 'mode must be one of'),
        (dict(clock='sun'), 'clock must be one of'),
        (dict(threads=0), 'threads: expected a positive integer, got 0'),
        (dict(mode='graph'), 'graph needs a CUDA device'),
        (dict(precision='tf32'), 'tf32 needs a CUDA device'),
        (dict(device='cuda', clock='cpu'), 'on the CPU only'),
    ],
    ids=str,
)
def test_what_is_impossible_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Setting(**options)


def test_a_device_that_is_not_there_is_refused():
    assert require_device('cpu:0') == require_device('cpu') == 'cpu'
    with pytest.raises(UserError, match='device: cuda:99 was asked for'):
        require_device('cuda:99')
    for name in 'tpu', 'xpu':
        with pytest.raises(UserError, match='expected cpu, cuda or cuda:N'):
            require_device(name)


def test_the_setting_and_the_machine_are_recorded(tmp_path):
    columns = describe(Setting(threads=3, mode='folded', clock='cpu'))
    wanted = dict(device='cpu', threads=3, mode='folded', clock='cpu')
    assert wanted.items() <= columns.items()
    assert {'cpu', 'torch', *CIRCUMSTANCES} <= set(columns)
    file = tmp_path / 'cpuinfo'
    assert cpu_name(file)
    file.write_text('processor\t: 0\nmodel name\t: Fast: CPU 9000\n')
    assert cpu_name(file) == 'Fast: CPU 9000'


def test_commit_is_that_of_a_tracked_file_and_tells_of_changes(tmp_path):
    def git(*arguments):
        identity = ('-c', 'user.name=a', '-c', 'user.email=b')
        return subprocess.run(
            ['git', '-C', tmp_path, *identity, *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def told():
        commit.cache_clear()
        return commit(file)

    file = tmp_path / 'file.py'
    assert told() == f'version {__version__}'
    file.write_text('1')
    git('init', '-q')
    # In somebody's repository, but not a part of it.
    assert told() == f'version {__version__}'
    git('add', 'file.py')
    git('commit', '-q', '-m', 'x')
    head = git('rev-parse', '--short=9', 'HEAD')
    assert told() == head
    file.write_text('2')
    assert told() == f'{head}+'
