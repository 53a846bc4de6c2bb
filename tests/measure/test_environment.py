import subprocess

from mmdet_shufflenetv2 import __version__
from mmdet_shufflenetv2.measure.environment import (
    CIRCUMSTANCES,
    commit,
    cpu_name,
    describe,
)
from mmdet_shufflenetv2.measure.setting import Setting


def test_cpu_name_is_the_model(tmp_path):
    file = tmp_path / 'cpuinfo'
    file.write_text('processor\t: 0\nmodel name\t: Fast: CPU 9000\n')
    assert cpu_name(file) == 'Fast: CPU 9000'


def test_cpu_name_is_never_empty(tmp_path):
    assert cpu_name(tmp_path / 'absent')


def test_the_setting_and_the_machine_are_recorded():
    columns = describe(Setting(threads=3, mode='folded', clock='cpu'))
    wanted = dict(
        device='cpu',
        threads=3,
        precision='fp32',
        layout='contiguous',
        mode='folded',
        clock='cpu',
    )
    assert wanted.items() <= columns.items()
    assert {'cpu', 'torch', *CIRCUMSTANCES} <= set(columns)


def test_commit_is_that_of_a_tracked_file_and_tells_of_changes(tmp_path):
    def git(*arguments):
        identity = ('-c', 'user.name=a', '-c', 'user.email=b')
        return subprocess.run(
            ['git', '-C', tmp_path, *identity, *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    file = tmp_path / 'file.py'
    file.write_text('1')
    git('init', '-q')
    # In somebody's repository, but no part of it.
    assert commit(file) == f'version {__version__}'
    commit.cache_clear()
    git('add', 'file.py')
    git('commit', '-q', '-m', 'x')
    head = git('rev-parse', '--short=9', 'HEAD')
    assert commit(file) == head
    commit.cache_clear()
    file.write_text('2')
    assert commit(file) == f'{head}+'


def test_without_a_repository_it_is_the_version(tmp_path):
    assert commit(tmp_path / 'file.py') == f'version {__version__}'
