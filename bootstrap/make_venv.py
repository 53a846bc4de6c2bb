"""Make ``.venv`` with everything that ``make demo`` and ``make test`` need.

``make install`` runs this with the Python that it has chosen. It calls
``venv`` and ``pip``, and explains each failure in one line. It skips a
complete ``.venv``, and completes an interrupted one. It uses only the
standard library.
"""

import hashlib
import importlib.util
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
# PyPI's torch for Linux includes the CUDA libraries: 6.3 GB installed, plus
# 2.7 GB of wheels that pip keeps until it is done (torch 2.15).
NEEDED_GB = 10 if sys.platform == 'linux' else 3
# With this much free space, pip may also cache the wheels.
ROOMY_GB = 15


class SetupError(Exception):
    """The set-up cannot go on; the message is one line with what to do."""


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
    # pip unpacks gigabytes into TMPDIR, and /tmp may be in memory.
    temporary = VENV / 'tmp'
    temporary.mkdir(parents=True, exist_ok=True)
    output = subprocess.DEVNULL if quiet else None
    failed = subprocess.call(
        command,
        cwd=ROOT,
        env=dict(os.environ, TMPDIR=str(temporary)),
        stdout=output,
        stderr=output,
    )
    shutil.rmtree(temporary, ignore_errors=True)
    if failed:
        raise SetupError(explain)


def install():
    """Fill ``.venv`` with pip, the dependencies and this editable checkout."""
    ours = VENV / 'bin' / 'python'
    again = 'see its message above; run the same command again to continue'
    run([sys.executable, '-m', 'venv', VENV], 'venv failed, ' + again)
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
    if subprocess.call([ours, '-c', 'import cv2']) != 0:
        print('setup: no libGL, so using opencv-python-headless')
        why = 'no OpenCV: apt install libgl1 libglib2.0-0'
        run([*pip, 'uninstall', '-q', '-y', 'opencv-python'], why)
        headless = ['--force-reinstall', '--no-deps', 'opencv-python-headless']
        run([*wheels, '-q', *headless], why)
        run([ours, '-c', 'import cv2'], why)


def set_up():
    """Check and install, unless ``.venv`` is already complete."""
    stamp = VENV / '.installed'
    # A link to a Python that was uninstalled leads nowhere.
    is_present = (VENV / 'bin' / 'python').exists()
    python = 'Python {}.{} '.format(*sys.version_info)
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update((ROOT / source).read_bytes())
    # Includes the folder: an editable installation breaks when it is moved.
    made_from = f'{python}{ROOT} {digest.hexdigest()}'
    found = stamp.read_text() if stamp.is_file() else None
    if is_present and found == made_from:
        return
    if VENV.exists() and found is None:
        raise SetupError(f'{VENV} was not made by this script: move it away')
    if not importlib.util.find_spec('ensurepip'):
        raise SetupError(
            f'{sys.executable} has no venv module: apt install python3-venv'
        )
    present_bytes = sum(
        path.lstat().st_size for path in VENV.rglob('*') if path.is_file()
    )
    if not check_disk(shutil.disk_usage(ROOT).free, present_bytes):
        os.environ['PIP_NO_CACHE_DIR'] = '1'
    if VENV.exists() and not (is_present and found.startswith(python)):
        shutil.rmtree(VENV)
    VENV.mkdir(exist_ok=True)
    stamp.write_text(f'{python}unfinished')
    install()
    stamp.write_text(made_from)


def main():
    try:
        set_up()
    except SetupError as error:
        sys.exit(f'setup: {error}')
    except KeyboardInterrupt:
        sys.exit('setup: stopped; run the same command again to continue')


if __name__ == '__main__':
    main()
