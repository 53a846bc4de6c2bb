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
    found['python3'] = Python('/bin/python3', versions[0], has_venv)
    return make_venv.choose_python(name, found.get)


def test_newest_supported_python_is_chosen_or_the_named_one():
    assert choose((3, 14), (3, 10), (3, 12)).version == (3, 12)
    chosen = choose((3, 13), (3, 10), name='python3.10')
    assert chosen.version == (3, 10)


@pytest.mark.parametrize(
    'versions, options, message',
    [
        ([(3, 9), (3, 14)], {}, r'expected Python 3\.10 to 3\.13, got .*3\.9'),
        ([(3, 12)], dict(name='python4'), 'got python4, which does not run'),
        ([(3, 11)], dict(has_venv=False), 'apt install python3-venv'),
    ],
)
def test_what_is_no_python_to_install_for_is_one_line(
    versions, options, message
):
    with pytest.raises(SetupError, match=message) as raised:
        choose(*versions, **options)
    assert '\n' not in str(raised.value)


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

    def install(python):
        if not installed:
            installed.append('interrupted')
            raise KeyboardInterrupt
        installed.append(python.version)
        executable = make_venv.VENV / 'bin' / 'python'
        executable.parent.mkdir(exist_ok=True)
        if not executable.exists():
            executable.symlink_to(sys.executable)

    monkeypatch.setattr(make_venv, 'ROOT', root)
    monkeypatch.setattr(make_venv, 'VENV', root / '.venv')
    monkeypatch.setattr(make_venv, 'NEEDED_GB', 0)
    monkeypatch.setattr(make_venv, 'choose_python', lambda name: THIS)
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
        assert installed == ['interrupted', THIS.version]
    (root / make_venv.SOURCES[0]).write_text('changed')
    make_venv.set_up()
    assert len(installed) == 3
    moved = root.rename(root.parent / 'moved')
    monkeypatch.setattr(make_venv, 'ROOT', moved)
    monkeypatch.setattr(make_venv, 'VENV', moved / '.venv')
    make_venv.set_up()
    assert len(installed) == 4
    # Another Python starts from an empty folder.
    (moved / '.venv' / 'of the first').touch()
    other = THIS._replace(version=(3, 99))
    monkeypatch.setattr(make_venv, 'choose_python', lambda name: other)
    make_venv.set_up('python3.99')
    assert installed[4:] == [(3, 99)]
    assert not (moved / '.venv' / 'of the first').exists()


def test_foreign_venv_is_neither_deleted_nor_filled(checkout):
    root, installed = checkout
    (root / '.venv').mkdir()
    (root / '.venv' / 'precious').touch()
    with pytest.raises(SystemExit, match=r'setup: .* move it away'):
        make_venv.main([])
    assert (root / '.venv' / 'precious').exists()
    assert not installed


def test_failed_command_is_explained_and_leaves_no_temporary_files(
    checkout, monkeypatch
):
    root, _ = checkout
    failing = ['sh', '-c', 'touch "$TMPDIR/left"; exit 3']
    with pytest.raises(SetupError, match='no network'):
        make_venv.run(failing, 'no network')
    assert not (root / '.venv' / 'tmp').exists()
    # Commands do not see what leads packages elsewhere.
    for name in make_venv.FOREIGN:
        monkeypatch.setenv(name, '/elsewhere')
    make_venv.run(['sh', '-c', '! env | grep /elsewhere'], 'seen')


def test_an_old_python_can_read_the_script(root):
    """What only newer Pythons parse would be a traceback on the old."""
    text = (root / 'bootstrap' / 'make_venv.py').read_text()
    ast.parse(text, feature_version=(3, 6))
