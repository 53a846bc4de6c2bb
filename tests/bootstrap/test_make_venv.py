"""The installation: skipped when done, repaired when it was cut short."""

import hashlib
import io
import json
import subprocess
import sys

import make_venv
import pytest
from preflight import Interpreter, SetupError

THIS = Interpreter(sys.executable, sys.version_info[:2], True, True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty checkout; every check passes, ``installed`` counts calls."""
    root = tmp_path / 'checkout'
    for name in make_venv.SOURCES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.setattr(make_venv, 'ROOT', root)
    monkeypatch.setattr(make_venv, 'VENV', root / '.venv')
    monkeypatch.setattr(make_venv, 'choose_python', lambda name: THIS)
    monkeypatch.setattr(make_venv, 'check_platform', lambda: None)
    monkeypatch.setattr(make_venv, 'check_disk', lambda *_: True)
    monkeypatch.setattr(make_venv, 'check_network', lambda index: None)
    monkeypatch.setattr(make_venv, 'package_index', lambda: None)
    installed = []

    def install(python, index):
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


def test_interrupted_installation_is_taken_up_again(checkout, monkeypatch):
    _, installed = checkout
    whole = make_venv.install

    def interrupted(python, index):
        raise KeyboardInterrupt

    monkeypatch.setattr(make_venv, 'install', interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_venv.set_up()
    monkeypatch.setattr(make_venv, 'install', whole)
    make_venv.set_up()
    make_venv.set_up()
    assert len(installed) == 1


def test_another_python_is_installed_anew(checkout, monkeypatch):
    root, installed = checkout
    make_venv.set_up()
    (root / '.venv' / 'of the first').touch()
    other = THIS._replace(version=(3, 99))
    monkeypatch.setattr(make_venv, 'choose_python', lambda name: other)
    make_venv.set_up('python3.99')
    assert installed == [THIS.version, (3, 99)]
    assert not (root / '.venv' / 'of the first').exists()


def test_installed_python_is_kept_when_none_is_named(checkout, monkeypatch):
    _, installed = checkout
    make_venv.set_up()
    other = THIS._replace(version=(3, 99))
    monkeypatch.setattr(make_venv, 'choose_python', lambda name: other)
    make_venv.set_up()
    assert installed == [THIS.version]


def test_foreign_venv_is_neither_deleted_nor_filled(checkout):
    root, installed = checkout
    (root / '.venv' / 'bin').mkdir(parents=True)
    (root / '.venv' / 'bin' / 'python').symlink_to(sys.executable)
    (root / '.venv' / 'precious').touch()
    with pytest.raises(SetupError, match='move it away'):
        make_venv.set_up()
    assert (root / '.venv' / 'precious').exists()
    assert not installed


@pytest.mark.parametrize(
    'check', ['choose_python', 'check_platform', 'check_disk', 'check_network']
)
def test_failed_check_is_one_line_and_writes_nothing(
    checkout, monkeypatch, check
):
    root, installed = checkout

    def refuse(*_):
        raise SetupError('too little of it')

    monkeypatch.setattr(make_venv, check, refuse)
    with pytest.raises(SystemExit) as raised:
        make_venv.main([])
    assert raised.value.code == 'setup: too little of it'
    assert not installed
    assert not (root / '.venv').exists()


def test_tight_disk_keeps_pip_from_caching(checkout, monkeypatch):
    monkeypatch.setattr(make_venv, 'check_disk', lambda *_: False)
    monkeypatch.setenv('PIP_NO_CACHE_DIR', '')
    make_venv.set_up()
    assert make_venv.os.environ['PIP_NO_CACHE_DIR'] == '1'


def test_failed_command_is_named_and_leaves_no_temporary_files(checkout):
    root, _ = checkout
    with pytest.raises(SetupError, match=r'exit 3.*the same command again'):
        make_venv.run(['sh', '-c', 'touch "$TMPDIR/left"; exit 3'])
    assert not (root / '.venv' / 'tmp').exists()


def test_commands_do_not_see_what_leads_packages_elsewhere(
    checkout, monkeypatch
):
    for name in make_venv.FOREIGN_VARIABLES:
        monkeypatch.setenv(name, '/elsewhere')
    make_venv.run(['sh', '-c', '! env | grep /elsewhere'])


def test_import_error_is_the_last_line_or_empty():
    assert make_venv.import_error(sys.executable, 'json') == ''
    said = make_venv.import_error(sys.executable, 'no_such_module')
    assert said == "ModuleNotFoundError: No module named 'no_such_module'"


def wheel(version, floor='>=3.9', **more):
    return {
        'filename': f'pip-{version}-py3-none-any.whl',
        'requires-python': floor,
        'yanked': False,
        **more,
    }


def test_newest_wheel_that_this_python_may_use_is_taken():
    page = {
        'files': [
            wheel('9.0'),
            wheel('26.3'),
            wheel('26.10'),
            wheel('27.0', floor='>=3.12'),
            wheel('28.0', yanked='broken'),
            {'filename': 'pip-29.0.tar.gz', 'requires-python': '>=3.9'},
            wheel('30.0/../../x'),
        ]
    }
    assert make_venv.newest_wheel(page, (3, 10)) == wheel('26.10')


@pytest.fixture
def served(checkout, monkeypatch):
    """An index with one pip wheel, and the commands that ran."""
    ran = []
    content = b'a wheel'
    entry = wheel(
        '26.3',
        url='pip.whl',
        hashes={'sha256': hashlib.sha256(content).hexdigest()},
    )

    class Answer(io.BytesIO):
        def geturl(self):
            return 'https://index/simple/pip/'

    def ask(index):
        return Answer(json.dumps({'files': [entry]}).encode())

    def fetch(address, timeout):
        assert address == 'https://index/simple/pip/pip.whl'
        return io.BytesIO(content)

    monkeypatch.setattr(make_venv, 'ask_index', ask)
    monkeypatch.setattr(make_venv.urllib.request, 'urlopen', fetch)
    monkeypatch.setattr(make_venv, 'run', ran.append)
    return entry, ran


def test_pip_is_fetched_where_python_has_no_ensurepip(served):
    _, ran = served
    make_venv.install_pip('python', (3, 11), 'https://index/simple')
    (command,) = ran
    assert command[0] == 'python'
    assert command[1].endswith('pip-26.3-py3-none-any.whl/pip')


def test_pip_with_another_sha256_is_never_run(served):
    entry, ran = served
    entry['hashes']['sha256'] = '0' * 64
    with pytest.raises(SetupError, match=r'sha256.*python3-venv'):
        make_venv.install_pip('python', (3, 11), 'https://index/simple')
    assert not ran


def test_pip_out_of_reach_says_what_to_install(monkeypatch):
    def ask(index):
        raise OSError('unreachable')

    monkeypatch.setattr(make_venv, 'ask_index', ask)
    with pytest.raises(SetupError, match=r'unreachable.*python3-venv'):
        make_venv.install_pip('python', (3, 11), 'https://index/simple')


def test_opencv_is_swapped_for_the_headless_wheel_of_its_version(
    checkout, monkeypatch
):
    ran = []
    monkeypatch.setattr(make_venv, 'run', ran.append)
    monkeypatch.setattr(
        subprocess, 'check_output', lambda *_, **__: '5.0.0.93\n'
    )
    make_venv.use_headless_opencv('python', 'ImportError: libGL.so.1')
    removed, added = ran
    assert removed[-1] == 'opencv-python'
    assert added[-1] == 'opencv-python-headless==5.0.0.93'
    assert '--only-binary=:all:' in added
