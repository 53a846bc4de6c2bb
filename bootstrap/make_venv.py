"""Make ``.venv`` with everything that ``make demo`` and ``make test`` need.

Usage: ``python3 bootstrap/make_venv.py [--python NAME]``; ``make install``
runs it. It calls ``venv`` and ``pip``, and explains each failure in one line.
It skips a complete ``.venv``, and completes an interrupted one.

Uses only the standard library and the syntax of Python 3.6, so that an old
Python gets a clear message instead of a SyntaxError.
"""

import argparse
import collections
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
EXTRAS = 'openmmlab,pretrain,export,deploy,report,test'
# A change to any of these files triggers a new installation.
SOURCES = ('setup.py', 'pyproject.toml', 'bootstrap/make_venv.py')
OLDEST, NEWEST = (3, 10), (3, 13)
CANDIDATES = [f'python3.{n}' for n in range(NEWEST[1], OLDEST[1] - 1, -1)]
CANDIDATES.append('python3')
# PyPI's torch for Linux includes the CUDA libraries: 6.3 GB installed, plus
# 2.7 GB of wheels that pip keeps until it is done (torch 2.15).
NEEDED_GB = 10 if sys.platform == 'linux' else 3
# With this much free space, pip may also cache the wheels.
ROOMY_GB = 15
# Environment variables that would install packages elsewhere.
FOREIGN = ('PYTHONPATH', 'PYTHONHOME', 'PIP_USER', 'PIP_TARGET', 'PIP_PREFIX')
QUERY = """
import importlib.util, json, sys
has_venv = all(map(importlib.util.find_spec, ('ensurepip', 'venv')))
print(json.dumps([sys.version_info[:2], has_venv]))
"""

Python = collections.namedtuple('Python', 'path version has_venv')


class SetupError(Exception):
    """The set-up cannot go on; the message is one line with what to do."""


def query(name):
    """The :class:`Python` that a command runs, or None if it fails.

    A command on PATH may fail: pyenv has shims for inactive versions.
    """
    path = shutil.which(str(name))
    if path is None:
        return None
    try:
        output = subprocess.check_output(
            [path, '-c', QUERY], stderr=subprocess.DEVNULL
        )
    except subprocess.CalledProcessError:
        return None
    version, has_venv = json.loads(output.decode())
    return Python(path, tuple(version), has_venv)


def choose_python(name=None, ask=query):
    """Choose the named Python, or the newest supported one on PATH."""
    found = [each for each in map(ask, [name] if name else CANDIDATES) if each]
    supported = [each for each in found if OLDEST <= each.version <= NEWEST]
    if not supported:
        seen = [
            '{} is {}.{}'.format(each.path, *each.version) for each in found
        ]
        missing = f'{name}, which does not run' if name else 'none'
        raise SetupError(
            f'expected Python 3.10 to 3.13, got {", ".join(seen) or missing}: '
            'install one, or choose one: PYTHON=/path/to/python3.12 make ...'
        )
    best = max(supported, key=lambda each: (each.has_venv, each.version))
    if not best.has_venv:
        raise SetupError(
            f'{best.path} has no venv module: apt install python3-venv'
        )
    return best


def check_disk(free_bytes, present_bytes=0):
    """Require enough free space; return whether pip may also use its cache."""
    free_gb = free_bytes / 1e9
    needed_gb = NEEDED_GB - present_bytes / 1e9
    if free_gb < needed_gb:
        raise SetupError(
            f'no space: {free_gb:.1f} GB free in {ROOT}, about '
            f'{needed_gb:.1f} GB needed (PyTorch and its libraries)'
        )
    return free_gb >= ROOMY_GB


def run(command, explain, quiet=False):
    """Run a command; if it fails, raise an error with the text ``explain``."""
    environment = {k: v for k, v in os.environ.items() if k not in FOREIGN}
    # pip unpacks gigabytes into TMPDIR, and /tmp may be in memory.
    temporary = VENV / 'tmp'
    temporary.mkdir(parents=True, exist_ok=True)
    output = subprocess.DEVNULL if quiet else None
    failed = subprocess.call(
        [str(part) for part in command],
        cwd=str(ROOT),
        env=dict(environment, TMPDIR=str(temporary)),
        stdout=output,
        stderr=output,
    )
    shutil.rmtree(str(temporary), ignore_errors=True)
    if failed:
        raise SetupError(explain)


def install(python):
    """Fill ``.venv`` with pip, the dependencies and this editable checkout."""
    ours = VENV / 'bin' / 'python'
    again = 'see its message above; run the same command again to continue'
    run([python.path, '-m', 'venv', VENV], 'venv failed, ' + again)
    pip = [ours, '-m', 'pip']
    # Let pip test the network: it knows proxies, mirrors and certificates.
    fetch = [*pip, 'download', '--no-deps', '--retries=1', '-d', VENV / 'tmp']
    run(
        [*fetch, 'pip'],
        'no network: pip cannot reach its package index; set https_proxy for '
        'a proxy or PIP_INDEX_URL for a mirror',
        quiet=True,
    )
    print('setup: installing, about 3 GB to download on Linux', flush=True)
    wheels = [*pip, 'install', '--only-binary=:all:']
    run([*wheels, '-q', '--upgrade', 'pip'], 'pip failed, ' + again)
    run([*wheels, '--editable', f'.[{EXTRAS}]'], 'pip failed, ' + again)
    if subprocess.call([str(ours), '-c', 'import cv2']) != 0:
        print('setup: no libGL, so using opencv-python-headless')
        why = 'no OpenCV: apt install libgl1 libglib2.0-0'
        run([*pip, 'uninstall', '-q', '-y', 'opencv-python'], why)
        headless = ['--force-reinstall', '--no-deps', 'opencv-python-headless']
        run([*wheels, '-q', *headless], why)
        run([ours, '-c', 'import cv2'], why)


def set_up(name=None):
    """Check and install, unless ``.venv`` is already complete."""
    stamp = VENV / '.installed'
    present = query(VENV / 'bin' / 'python')
    fits = present and OLDEST <= present.version <= NEWEST
    python = present if fits and not name else choose_python(name)
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update((ROOT / source).read_bytes())
    # Includes the folder: an editable installation breaks when it is moved.
    made_from = 'Python {}.{} {} {}'.format(
        *python.version, ROOT, digest.hexdigest()
    )
    if present and stamp.is_file() and stamp.read_text() == made_from:
        return
    if VENV.exists() and not stamp.is_file():
        raise SetupError(f'{VENV} was not made by this script: move it away')
    present_bytes = sum(
        path.lstat().st_size for path in VENV.rglob('*') if path.is_file()
    )
    if not check_disk(shutil.disk_usage(str(ROOT)).free, present_bytes):
        os.environ['PIP_NO_CACHE_DIR'] = '1'
    if VENV.exists() and (not present or present.version != python.version):
        shutil.rmtree(str(VENV))
    VENV.mkdir(exist_ok=True)
    stamp.write_text('unfinished')
    install(python)
    stamp.write_text(made_from)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--python', help='interpreter to use')
    try:
        set_up(parser.parse_args(arguments).python or None)
    except SetupError as error:
        sys.exit(f'setup: {error}')
    except KeyboardInterrupt:
        sys.exit('setup: stopped; run the same command again to continue')


if __name__ == '__main__':
    main()
