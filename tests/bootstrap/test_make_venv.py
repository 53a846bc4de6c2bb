"""``.venv``: one line for what stops it, skipped when done, completed when
it was cut short.
"""

import re
import shutil
import subprocess
import sys

import make_venv
import pytest
from make_venv import SetupError

# A Python of another version, without some modules.
FAKE = """#!{}
import sys
sys.version_info = {}
sys.modules.update({})
if sys.argv[1] == '--version':
    sys.exit(print('Python', *sys.version_info))
if sys.argv[1] == '-c':
    print('as some start-up files do')
exec(sys.argv[2] if sys.argv[1] == '-c' else open(sys.argv[1]).read())
"""
SCRIPT = """
import os
assert 'PIP_TARGET' not in os.environ
print(*sys.version_info)
"""


@pytest.fixture
def make(root, tmp_path):
    """``make install`` where only these Pythons are; returns its output.

    That is the version of the Python that is chosen, or what is wrong.
    """
    (tmp_path / 'bootstrap').mkdir()
    (tmp_path / 'bootstrap' / 'make_venv.py').write_text(SCRIPT)
    command = [shutil.which('make'), '-sf', root / 'Makefile', 'install']
    # What leads packages elsewhere is not passed on.
    env = {'PATH': str(tmp_path / 'bin'), 'PIP_TARGET': '/elsewhere'}
    output = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def make(pythons, *arguments):
        for name, (version, *absent) in pythons.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            absent = dict.fromkeys(absent)
            path.write_text(FAKE.format(sys.executable, version, absent))
            path.chmod(0o755)
        called = [*command, *arguments]
        return subprocess.run(called, cwd=tmp_path, env=env, **output).stdout

    return make


def test_newest_supported_python_is_chosen_or_the_named_one(make):
    pythons = {
        'bin/python3': [(3, 14)],
        'bin/python3.13': [(3, 13), 'ensurepip'],
        'bin/python3.12': [(3, 12)],
        'bin/python3.10': [(3, 10)],
    }
    assert make(pythons) == '3 12\n'
    assert make({}, 'PYTHON=python3.10') == '3 10\n'
    assert make({}, 'PYTHON=python3.13') == '3 13\n'
    path = "it's a/python"
    assert make({path: [(3, 11)]}, f'PYTHON={path}') == '3 11\n'
    # What .venv was made with stays.
    assert make({'.venv/bin/python': [(3, 11)]}) == '3 11\n'
    assert make({}, 'PYTHON=python3.12') == '3 12\n'


@pytest.mark.parametrize(
    'version, arguments, got',
    [
        ((3, 9), [], r'python3 \(Python 3 9\)'),
        ((3, 12), ['PYTHON=python4'], r'python4 \(no Python\)'),
        ((3, 12), ["PYTHON=it's 4"], r"it's 4 \(no Python\)"),
        ((3, 12), ['PYTHON=/bin/ls'], r'/bin/ls \(no Python\)'),
    ],
)
def test_no_python_to_install_for_is_one_line(make, version, arguments, got):
    lines = make({'bin/python3': [version]}, *arguments).splitlines()
    expected = rf'setup: expected Python 3\.10 to 3\.13, got {got}: install.*'
    assert re.fullmatch(expected, lines[0])
    assert len(lines) == 2
    assert lines[1].startswith('make: ')


def test_full_disk_is_one_line_with_both_figures(monkeypatch):
    monkeypatch.setattr(make_venv, 'NEEDED_GB', 10)
    with pytest.raises(SetupError, match=r'no space: 4\.0 GB.*10\.0 GB'):
        make_venv.check_disk(4e9)
    # What is installed already needs no room again.
    assert not make_venv.check_disk(4e9, present_bytes=6.5e9)
    assert make_venv.check_disk(15.1e9)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty checkout; ``installed`` has the version of each call."""
    root, installed = tmp_path / 'checkout', []
    for name in make_venv.SOURCES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)

    def install():
        if not installed:
            installed.append('interrupted')
            raise KeyboardInterrupt
        installed.append(sys.version_info[:2])
        executable = make_venv.VENV / 'bin' / 'python'
        executable.parent.mkdir(exist_ok=True)
        if not executable.exists():
            executable.symlink_to(sys.executable)

    monkeypatch.setattr(make_venv, 'ROOT', root)
    monkeypatch.setattr(make_venv, 'VENV', root / '.venv')
    monkeypatch.setattr(make_venv, 'NEEDED_GB', 0)
    monkeypatch.setattr(make_venv, 'install', install)
    return root, installed


def test_it_installs_when_there_is_a_reason_and_only_then(
    checkout, monkeypatch
):
    root, installed = checkout
    with pytest.raises(KeyboardInterrupt):
        make_venv.set_up()
    # What was interrupted is completed, and left alone then.
    for _ in range(2):
        make_venv.set_up()
        assert installed == ['interrupted', sys.version_info[:2]]
    (root / make_venv.SOURCES[0]).write_text('changed')
    make_venv.set_up()
    assert len(installed) == 3
    moved = root.rename(root.parent / 'moved')
    monkeypatch.setattr(make_venv, 'ROOT', moved)
    monkeypatch.setattr(make_venv, 'VENV', moved / '.venv')
    make_venv.set_up()
    assert len(installed) == 4
    # Another Python starts from an empty folder, as does one that is gone.
    marker = moved / '.venv' / 'of the first'
    marker.touch()
    monkeypatch.setattr(sys, 'version_info', (3, 99))
    make_venv.set_up()
    assert installed[4:] == [(3, 99)]
    assert not marker.exists()
    marker.touch()
    (moved / '.venv' / 'bin' / 'python').unlink()
    make_venv.set_up()
    assert len(installed) == 6
    assert not marker.exists()


def test_foreign_venv_is_neither_deleted_nor_filled(checkout):
    root, installed = checkout
    (root / '.venv').mkdir()
    (root / '.venv' / 'precious').touch()
    with pytest.raises(SystemExit, match=r'setup: .* move it away'):
        make_venv.main()
    assert (root / '.venv' / 'precious').exists()
    assert not installed


def test_failed_command_is_explained_and_leaves_no_temporary_files(checkout):
    root, _ = checkout
    failing = ['sh', '-c', 'touch "$TMPDIR/left"; exit 3']
    with pytest.raises(SetupError, match='no network'):
        make_venv.run(failing, 'no network')
    assert not (root / '.venv' / 'tmp').exists()


def test_python_without_venv_is_one_line(checkout, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ensurepip', None)
    with pytest.raises(SystemExit, match='no venv module: apt install'):
        make_venv.main()
    assert not make_venv.VENV.exists()
