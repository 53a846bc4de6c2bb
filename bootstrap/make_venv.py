"""Make ``.venv`` with everything ``make demo`` and ``make test`` need.

Usage: ``python3 bootstrap/make_venv.py [--python NAME]``; ``make install``
runs it. It is ``venv`` and ``pip``, and one line for each thing that stops
them. A finished ``.venv`` is left alone, an unfinished one is completed.

Standard library only, and no syntax newer than Python 3.6, so that an old
Python explains itself instead of stopping at a SyntaxError.
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
# A change of any of these leads to a new installation.
SOURCES = ('setup.py', 'pyproject.toml', 'bootstrap/make_venv.py')
OLDEST, NEWEST = (3, 10), (3, 13)
CANDIDATES = [f'python3.{n}' for n in range(NEWEST[1], OLDEST[1] - 1, -1)]
CANDIDATES.append('python3')
# PyPI's torch for Linux brings the CUDA libraries: 6.3 GB installed, and pip
# keeps 2.7 GB of wheels beside them until it is done (torch 2.15).
NEEDED_GB = 10 if sys.platform == 'linux' else 3
# With this much free, pip may keep the wheels for the next time.
ROOMY_GB = 15
# What would send packages elsewhere.
FOREIGN = ('PYTHONPATH', 'PYTHONHOME', 'PIP_USER', 'PIP_TARGET', 'PIP_PREFIX')
QUERY = """
import importlib.util, json, sys
has_venv = all(map(importlib.util.find_spec, ('ensurepip', 'venv')))
print(json.dumps([sys.version_info[:2], has_venv]))
"""

Python = collections.namedtuple('Python', 'path version has_venv')


class SetupError(Exception):
    """What stops the set-up, as one line that says what to do."""


def query(name):
    """The :class:`Python` of a command; None if it does not run.

    A name on PATH need not run: pyenv leaves shims of inactive versions.
    """
    path = shutil.which(str(name))
    if path is None:
        return None
    try:
        said = subprocess.check_output(
            [path, '-c', QUERY], stderr=subprocess.DEVNULL
        )
    except subprocess.CalledProcessError:
        return None
    version, has_venv = json.loads(said.decode())
    return Python(path, tuple(version), has_venv)


def choose_python(name=None, ask=query):
    """The Python to install for: the named one or the newest on PATH."""
    found = [each for each in map(ask, [name] if name else CANDIDATES) if each]
    fitting = [each for each in found if OLDEST <= each.version <= NEWEST]
    if not fitting:
        seen = [
            '{} is {}.{}'.format(each.path, *each.version) for each in found
        ]
        missing = f'{name}, which does not run' if name else 'none'
        raise SetupError(
            f'expected Python 3.10 to 3.13, got {", ".join(seen) or missing}: '
            'install one, or name one: PYTHON=/path/to/python3.12 make ...'
        )
    best = max(fitting, key=lambda each: (each.has_venv, each.version))
    if not best.has_venv:
        raise SetupError(
            f'{best.path} has no venv module: apt install python3-venv'
        )
    return best


def check_disk(free_bytes, present_bytes=0):
    """Refuse a full disk; say whether pip may fill its cache besides."""
    needed = NEEDED_GB - present_bytes / 1e9
    if free_bytes / 1e9 < needed:
        raise SetupError(
            f'no space: {free_bytes / 1e9:.1f} GB free in {ROOT}, about '
            f'{needed:.1f} GB needed (PyTorch and its libraries)'
        )
    return free_bytes / 1e9 >= ROOMY_GB


def run(command, explain, quiet=False):
    """Run a command; if it fails, ``explain`` says what that means."""
    environment = {k: v for k, v in os.environ.items() if k not in FOREIGN}
    # pip unpacks gigabytes into its temporary folder; /tmp may be memory.
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
    """Fill ``.venv``: pip, the official set, this checkout (editable)."""
    ours = VENV / 'bin' / 'python'
    again = 'its message is above; the same command goes on from here'
    run([python.path, '-m', 'venv', VENV], 'venv failed, ' + again)
    pip = [ours, '-m', 'pip']
    # Asked of pip itself, which knows about proxies, mirrors, certificates.
    page = [*pip, 'download', '--no-deps', '--retries=1', '-d', VENV / 'tmp']
    run(
        [*page, 'pip'],
        'no network: pip does not reach its package index; for a proxy set '
        'https_proxy, for a mirror PIP_INDEX_URL',
        quiet=True,
    )
    print('setup: installing, about 3 GB to download on Linux', flush=True)
    wheels = [*pip, 'install', '--only-binary=:all:']
    run([*wheels, '-q', '--upgrade', 'pip'], 'pip failed, ' + again)
    run([*wheels, '--editable', f'.[{EXTRAS}]'], 'pip failed, ' + again)
    if subprocess.call([str(ours), '-c', 'import cv2']) != 0:
        print('setup: no libGL here: opencv-python-headless instead')
        why = 'no OpenCV: apt install libgl1 libglib2.0-0'
        run([*pip, 'uninstall', '-q', '-y', 'opencv-python'], why)
        headless = ['--force-reinstall', '--no-deps', 'opencv-python-headless']
        run([*wheels, '-q', *headless], why)
        run([ours, '-c', 'import cv2'], why)


def set_up(name=None):
    """Check, then install, unless ``.venv`` is finished already."""
    stamp = VENV / '.installed'
    present = query(VENV / 'bin' / 'python')
    fits = present and OLDEST <= present.version <= NEWEST
    python = present if fits and not name else choose_python(name)
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update((ROOT / source).read_bytes())
    # With the folder, because an editable installation breaks when it moves.
    made_from = 'Python {}.{} {} {}'.format(
        *python.version, ROOT, digest.hexdigest()
    )
    if present and stamp.is_file() and stamp.read_text() == made_from:
        return
    if VENV.exists() and not stamp.is_file():
        raise SetupError(f'{VENV} was not made by this command: move it away')
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
    parser.add_argument('--python', help='the interpreter to install for')
    try:
        set_up(parser.parse_args(arguments).python or None)
    except SetupError as error:
        sys.exit(f'setup: {error}')
    except KeyboardInterrupt:
        sys.exit('setup: stopped; the same command goes on from here')


if __name__ == '__main__':
    main()
