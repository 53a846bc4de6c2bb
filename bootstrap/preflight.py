"""What is looked for before ``.venv`` is made, each told in one line.

The Python, the platform, the disk, the network. Nothing here writes.

Standard library only, and no syntax newer than Python 3.6, so that an old
Python explains itself instead of stopping at a SyntaxError.
"""

import collections
import configparser
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request

OLDEST, NEWEST = (3, 10), (3, 13)
CANDIDATES = (
    'python3.13',
    'python3.12',
    'python3.11',
    'python3.10',
    'python3',
)
# PyPI's torch brings the CUDA libraries: 6.3 GB installed, and pip keeps the
# 2.7 GB of wheels beside them until it is done (measured, torch 2.15).
NEEDED_GB = 10
# With this much pip may keep the wheels for the next time, too.
ROOMY_GB = 15
OLDEST_GLIBC = (2, 28)
DEFAULT_INDEX = 'https://pypi.org/simple'
PIP_CONFIGS = (
    '/etc/xdg/pip/pip.conf',
    '/etc/pip.conf',
    '~/.pip/pip.conf',
    '~/.config/pip/pip.conf',
)
QUERY = """
import importlib, json, sys
def has(name):
    try:
        return bool(importlib.import_module(name))
    except ImportError:
        return False
version = list(sys.version_info[:2])
print(json.dumps([version, has('venv'), has('ensurepip')]))
"""

Interpreter = collections.namedtuple(
    'Interpreter', 'path version has_venv has_ensurepip'
)


class SetupError(Exception):
    """What stops the set-up, as one line that says what to do."""


def dotted(version) -> str:
    """``(3, 10)`` as ``'3.10'``."""
    return '.'.join(str(part) for part in version)


def query(name):
    """The :class:`Interpreter` behind a command, None if it does not run.

    A name on PATH need not run: pyenv leaves shims of inactive versions.
    """
    path = shutil.which(name)
    if path is None:
        return None
    answer = subprocess.run(
        [path, '-c', QUERY],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        universal_newlines=True,
        check=False,
    )
    if answer.returncode != 0:
        return None
    version, has_venv, has_ensurepip = json.loads(answer.stdout)
    return Interpreter(path, tuple(version), has_venv, has_ensurepip)


def is_supported(python) -> bool:
    return python is not None and OLDEST <= python.version <= NEWEST


def choose_python(name=None, ask=query):
    """The interpreter to install for.

    Args:
        name: what the user asked for, or None for the newest one on PATH.
            A whole one goes before one that Debian ships in parts.
        ask: maps a command to its :class:`Interpreter` or None.

    Raises:
        SetupError: if none runs, or it is too old, too new or has no venv.
    """
    names = [name] if name else CANDIDATES
    found = [answer for answer in map(ask, names) if answer is not None]
    usable = [each for each in found if is_supported(each)]
    if usable:
        best = max(
            usable,
            key=lambda each: (each.has_venv, each.has_ensurepip, each.version),
        )
        if not best.has_venv:
            raise SetupError(
                f'Python {dotted(best.version)} ({best.path}) has no venv: '
                'apt install python3-venv'
            )
        return best
    wanted = (
        f'Python {dotted(OLDEST)} to {dotted(NEWEST)} is needed; install '
        'one, or name one that you have: PYTHON=/path/to/python3.12 make ...'
    )
    if found:
        best = max(found, key=lambda each: each.version)
        verdict = 'too old' if best.version < OLDEST else 'too new'
        raise SetupError(
            f'Python {dotted(best.version)} ({best.path}) is {verdict}: '
            f'{wanted}'
        )
    if name:
        raise SetupError(
            f'PYTHON={name} is no Python that runs here: {wanted}'
        )
    raise SetupError(f'no Python 3 is on PATH: {wanted}')


def check_platform(system=None, machine=None, libc=None) -> None:
    """PyTorch's wheels are for Linux with a glibc of 2018 or newer."""
    system = system or platform.system()
    machine = machine or platform.machine()
    name, version = libc or platform.libc_ver()
    numbers = tuple(int(part) for part in re.findall(r'\d+', version)[:2])
    if (
        system != 'Linux'
        or machine not in ('x86_64', 'aarch64')
        or name != 'glibc'
        or numbers < OLDEST_GLIBC
    ):
        raise SetupError(
            'PyTorch has wheels for Linux on x86_64 or aarch64 with glibc '
            f'{dotted(OLDEST_GLIBC)} or newer; this is {system} on {machine} '
            f'with {name or "another C library"} {version}'
        )


def check_disk(folder, present_bytes: int, free_bytes=None) -> bool:
    """Room for the whole ``.venv``.

    Args:
        folder: where ``.venv`` is or will be.
        present_bytes: what of it is there already.
        free_bytes: what the file system has left; None asks it.

    Returns:
        Whether pip may fill its cache besides.
    """
    if free_bytes is None:
        free_bytes = shutil.disk_usage(str(folder)).free
    needed = NEEDED_GB - present_bytes / 1e9
    if free_bytes / 1e9 < needed:
        raise SetupError(
            f'too little disk: {free_bytes / 1e9:.1f} GB free in {folder}, '
            f'about {needed:.1f} GB needed (PyTorch and its CUDA libraries)'
        )
    return free_bytes / 1e9 >= ROOMY_GB


def package_index(environment=None):
    """The index pip will use, None if it is told to use none.

    pip's variables win over its files, as in pip.
    """
    if environment is None:
        environment = os.environ
    settings = {}
    named = environment.get('PIP_CONFIG_FILE', '')
    for name in () if named == os.devnull else (*PIP_CONFIGS, named):
        parser = configparser.RawConfigParser()
        parser.read(os.path.expanduser(name), encoding='utf-8')
        for section in ('global', 'install'):
            if parser.has_section(section):
                settings.update(parser.items(section))
    for key in ('index-url', 'no-index'):
        variable = 'PIP_' + key.upper().replace('-', '_')
        settings[key] = environment.get(variable) or settings.get(key, '')
    if settings['no-index'].lower() in ('1', 'true', 'yes', 'on'):
        return None
    return (settings['index-url'] or DEFAULT_INDEX).rstrip('/')


def ask_index(index: str):
    """pip's own page on the index, in the JSON form of PEP 691."""
    request = urllib.request.Request(
        index + '/pip/',
        headers={'Accept': 'application/vnd.pypi.simple.v1+json'},
    )
    return urllib.request.urlopen(request, timeout=15)


def check_network(index, ask=ask_index) -> None:
    """The package index answers."""
    if index is None:
        return
    try:
        ask(index).close()
    except urllib.error.HTTPError:
        # It answered. Whether it gives what pip asks for, pip will say.
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, 'reason', error)
        if isinstance(reason, ssl.SSLError):
            # Reached, but not trusted by this Python; pip has its own list.
            return
        raise SetupError(
            f'no network: {index} does not answer ({reason}); behind a proxy '
            'set https_proxy, for a mirror PIP_INDEX_URL'
        ) from None
