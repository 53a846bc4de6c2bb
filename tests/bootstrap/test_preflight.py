"""Each obstacle to the set-up is told in one line, before any work."""

import ast
import io
import ssl
import sys
import urllib.error

import preflight
import pytest
from preflight import Interpreter, SetupError


def interpreter(version, has_venv=True, has_ensurepip=True):
    path = '/bin/python' + preflight.dotted(version)
    return Interpreter(path, version, has_venv, has_ensurepip)


def choose(found, name=None):
    """``choose_python`` on a machine with these commands only."""
    return preflight.choose_python(name, found.get)


def one_line(raised) -> str:
    message = str(raised.value)
    assert '\n' not in message
    return message


def test_newest_supported_python_is_chosen():
    found = {
        'python3': interpreter((3, 14)),
        'python3.10': interpreter((3, 10)),
        'python3.12': interpreter((3, 12)),
    }
    assert choose(found).version == (3, 12)


def test_whole_python_goes_before_a_newer_one_without_ensurepip():
    found = {
        'python3.13': interpreter((3, 13), has_ensurepip=False),
        'python3.11': interpreter((3, 11)),
    }
    assert choose(found).version == (3, 11)


def test_python_without_ensurepip_is_used_when_it_is_the_only_one():
    found = {'python3': interpreter((3, 11), has_ensurepip=False)}
    assert choose(found).version == (3, 11)


def test_named_python_goes_before_a_newer_one():
    found = {
        'python3.13': interpreter((3, 13)),
        'python3.10': interpreter((3, 10)),
    }
    assert choose(found, 'python3.10').version == (3, 10)


@pytest.mark.parametrize(
    'version, verdict', [((3, 9), 'too old'), ((3, 14), 'too new')]
)
@pytest.mark.parametrize('name', [None, 'python3'])
def test_unsupported_python_is_named_with_what_is_needed(
    version, verdict, name
):
    with pytest.raises(SetupError) as raised:
        choose({'python3': interpreter(version)}, name)
    message = one_line(raised)
    assert f'{preflight.dotted(version)} ' in message
    assert verdict in message
    assert '3.10 to 3.13' in message


def test_named_python_that_does_not_run_is_told():
    found = {'python3.12': interpreter((3, 12))}
    with pytest.raises(SetupError) as raised:
        choose(found, 'python4')
    assert 'PYTHON=python4' in one_line(raised)


def test_no_python_at_all_is_told():
    with pytest.raises(SetupError) as raised:
        choose({})
    assert 'no Python 3 is on PATH' in one_line(raised)


def test_missing_venv_says_what_to_install():
    found = {'python3': interpreter((3, 11), False, False)}
    with pytest.raises(SetupError) as raised:
        choose(found)
    assert 'apt install python3-venv' in one_line(raised)


def test_query_describes_a_real_interpreter():
    answer = preflight.query(sys.executable)
    assert answer.version == sys.version_info[:2]
    assert answer.has_venv


def test_query_is_none_for_a_command_that_fails(tmp_path):
    shim = tmp_path / 'python3.13'
    shim.write_text('#!/bin/sh\nexit 127\n')
    shim.chmod(0o755)
    assert preflight.query(str(shim)) is None
    assert preflight.query(str(tmp_path / 'absent')) is None


@pytest.mark.parametrize(
    'system, machine, libc',
    [
        ('Darwin', 'x86_64', ('glibc', '2.36')),
        ('Linux', 'armv7l', ('glibc', '2.36')),
        ('Linux', 'x86_64', ('', '')),
        ('Linux', 'x86_64', ('glibc', '2.27')),
    ],
)
def test_platform_without_wheels_is_refused(system, machine, libc):
    with pytest.raises(SetupError) as raised:
        preflight.check_platform(system, machine, libc)
    message = one_line(raised)
    assert f'this is {system} on {machine}' in message
    assert 'glibc 2.28 or newer' in message


@pytest.mark.parametrize('libc', [('glibc', '2.28'), ('glibc', '3.0')])
def test_platform_with_wheels_passes(libc):
    preflight.check_platform('Linux', 'aarch64', libc)


def test_too_little_disk_tells_both_figures(tmp_path):
    with pytest.raises(SetupError) as raised:
        preflight.check_disk(tmp_path, 0, free_bytes=4_000_000_000)
    message = one_line(raised)
    assert '4.0 GB free' in message
    assert '10.0 GB needed' in message
    assert str(tmp_path) in message


def test_what_is_installed_already_needs_no_room_again(tmp_path):
    preflight.check_disk(tmp_path, 6_500_000_000, free_bytes=4_000_000_000)


@pytest.mark.parametrize('free_gb, may_cache', [(10.1, False), (15.1, True)])
def test_pip_may_fill_its_cache_on_a_roomy_disk_only(
    tmp_path, free_gb, may_cache
):
    free_bytes = int(free_gb * 1e9)
    assert preflight.check_disk(tmp_path, 0, free_bytes) is may_cache


def failing(error):
    def ask(index):
        raise error

    return ask


@pytest.mark.parametrize(
    'error',
    [
        urllib.error.URLError('Name or service not known'),
        TimeoutError('timed out'),
        ConnectionResetError('reset by peer'),
        ValueError("unknown url type: 'nonsense/pip/'"),
    ],
    ids=['no name', 'timeout', 'reset', 'no address'],
)
def test_index_out_of_reach_is_told_with_the_reason(error):
    with pytest.raises(SetupError) as raised:
        preflight.check_network('https://mirror/simple', failing(error))
    message = one_line(raised)
    assert 'no network: https://mirror/simple' in message
    assert str(getattr(error, 'reason', error)) in message


@pytest.mark.parametrize(
    'error',
    [
        urllib.error.HTTPError('https://mirror', 403, 'no', {}, io.BytesIO()),
        urllib.error.URLError(ssl.SSLCertVerificationError('self-signed')),
    ],
    ids=['403', 'certificate'],
)
def test_index_that_answers_anything_is_left_to_pip(error):
    preflight.check_network('https://mirror/simple', failing(error))


def test_network_is_not_asked_when_pip_uses_no_index():
    preflight.check_network(None, failing(AssertionError('asked')))


NO_FILES = {'PIP_CONFIG_FILE': '/dev/null'}


def test_index_is_pypi_unless_told():
    assert preflight.package_index(NO_FILES) == 'https://pypi.org/simple'


def test_index_of_the_environment_wins_over_the_file(tmp_path):
    settings = tmp_path / 'pip.conf'
    settings.write_text('[global]\nindex-url = https://file/simple/\n')
    environment = {'PIP_CONFIG_FILE': str(settings)}
    assert preflight.package_index(environment) == 'https://file/simple'
    environment['PIP_INDEX_URL'] = 'https://variable/simple'
    assert preflight.package_index(environment) == 'https://variable/simple'


@pytest.mark.parametrize('value', ['1', 'true', 'Yes'])
def test_no_index_is_understood(value):
    assert preflight.package_index({**NO_FILES, 'PIP_NO_INDEX': value}) is None


@pytest.mark.parametrize('name', ['preflight.py', 'make_venv.py'])
def test_an_old_python_can_read_the_scripts(root, name):
    """What only newer Pythons parse would be a traceback on the old."""
    text = (root / 'bootstrap' / name).read_text()
    ast.parse(text, feature_version=(3, 6))
