"""``.venv``: one line for what stops it, skipped when done, completed when
it was cut short.
"""

import ast
import sys

import make_venv
import pytest
from make_venv import Python, SetupError

THIS = Python(sys.executable, sys.version_info[:2], True)


def choose(*versions, has_venv=True, name=None):
    """``choose_python`` on a machine with these versions only."""
    found = {
        'python{}.{}'.format(*version): Python(
            '/bin/python', version, has_venv
        )
        for version in versions
    }
    found.update({'python3': Python('/bin/python3', versions[0], has_venv)})
    return make_venv.choose_python(name, found.get)


def test_newest_supported_python_is_chosen():
    assert choose((3, 14), (3, 10), (3, 12)).version == (3, 12)


def test_named_python_goes_before_a_newer_one():
    chosen = choose((3, 13), (3, 10), name='python3.10')
    assert chosen.version == (3, 10)


@pytest.mark.parametrize('version', [(3, 9), (3, 14)])
def test_unsupported_python_is_one_line_with_what_is_needed(version):
    with pytest.raises(SetupError) as raised:
        choose(version)
    message = str(raised.value)
    assert '\n' not in message
    assert 'expected Python 3.10 to 3.13' in message
    assert 'got /bin/python3 is {}.{}'.format(*version) in message


def test_named_python_that_does_not_run_is_one_line():
    with pytest.raises(SetupError, match='got python4, which does not run'):
        choose((3, 12), name='python4')


def test_missing_venv_module_says_what_to_install():
    with pytest.raises(SetupError, match='apt install python3-venv'):
        choose((3, 11), has_venv=False)


def test_query_is_none_for_a_command_that_fails(tmp_path):
    shim = tmp_path / 'python3.13'
    shim.write_text('#!/bin/sh\nexit 127\n')
    shim.chmod(0o755)
    assert make_venv.query(shim) is None
    assert make_venv.query(tmp_path / 'absent') is None
    assert make_venv.query(sys.executable).version == sys.version_info[:2]


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
    root = tmp_path / 'checkout'
    for name in make_venv.SOURCES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.setattr(make_venv, 'ROOT', root)
    monkeypatch.setattr(make_venv, 'VENV', root / '.venv')
    monkeypatch.setattr(make_venv, 'NEEDED_GB', 0)
    monkeypatch.setattr(make_venv, 'choose_python', lambda name: THIS)
    installed = []

    def install(python):
        installed.append(python.version)
        executable = make_venv.VENV / 'bin' / 'python'
        executable.parent.mkdir(exist_ok=True)
        if not executable.exists():
            executable.symlink_to(sys.executable)

    monkeypatch.setattr(make_venv, 'install', install)
    return root, installed


def test_second_run_installs_nothing(checkout):
    _, installed = checkout
    make_venv.set_up()
    make_venv.set_up()
    assert len(installed) == 1


@pytest.mark.parametrize('name', make_venv.SOURCES)
def test_changed_source_installs_again(checkout, name):
    root, installed = checkout
    make_venv.set_up()
    (root / name).write_text('changed')
    make_venv.set_up()
    assert len(installed) == 2


def test_moved_checkout_installs_again(checkout, monkeypatch):
    root, installed = checkout
    make_venv.set_up()
    moved = root.parent / 'moved'
    root.rename(moved)
    monkeypatch.setattr(make_venv, 'ROOT', moved)
    monkeypatch.setattr(make_venv, 'VENV', moved / '.venv')
    make_venv.set_up()
    assert len(installed) == 2


def test_interrupted_installation_is_completed(checkout, monkeypatch):
    _, installed = checkout
    whole = make_venv.install

    def interrupted(python):
        raise KeyboardInterrupt

    monkeypatch.setattr(make_venv, 'install', interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_venv.set_up()
    monkeypatch.setattr(make_venv, 'install', whole)
    make_venv.set_up()
    make_venv.set_up()
    assert len(installed) == 1


def test_another_python_starts_from_an_empty_folder(checkout, monkeypatch):
    root, installed = checkout
    make_venv.set_up()
    (root / '.venv' / 'of the first').touch()
    other = THIS._replace(version=(3, 99))
    monkeypatch.setattr(make_venv, 'choose_python', lambda name: other)
    make_venv.set_up('python3.99')
    assert installed == [THIS.version, (3, 99)]
    assert not (root / '.venv' / 'of the first').exists()


def test_foreign_venv_is_neither_deleted_nor_filled(checkout):
    root, installed = checkout
    (root / '.venv').mkdir()
    (root / '.venv' / 'precious').touch()
    with pytest.raises(SystemExit, match=r'setup: .* move it away'):
        make_venv.main([])
    assert (root / '.venv' / 'precious').exists()
    assert not installed


def test_failed_command_is_explained_and_leaves_no_temporary_files(checkout):
    root, _ = checkout
    with pytest.raises(SetupError, match='no network'):
        make_venv.run(
            ['sh', '-c', 'touch "$TMPDIR/left"; exit 3'], 'no network'
        )
    assert not (root / '.venv' / 'tmp').exists()


def test_commands_do_not_see_what_leads_packages_elsewhere(
    checkout, monkeypatch
):
    for name in make_venv.FOREIGN:
        monkeypatch.setenv(name, '/elsewhere')
    make_venv.run(['sh', '-c', '! env | grep /elsewhere'], 'seen')


def test_an_old_python_can_read_the_script(root):
    """What only newer Pythons parse would be a traceback on the old."""
    text = (root / 'bootstrap' / 'make_venv.py').read_text()
    ast.parse(text, feature_version=(3, 6))
