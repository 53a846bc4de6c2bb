"""Make ``.venv`` with everything ``make demo`` and ``make test`` need.

Usage: ``python3 bootstrap/make_venv.py [--python NAME]``; ``make install``
runs it. First every check of :mod:`preflight`, then the installation, which
writes inside ``.venv`` only. A finished ``.venv`` is left alone.

Standard library only, and no syntax newer than Python 3.6, as in there.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

from preflight import (
    SetupError,
    ask_index,
    check_disk,
    check_network,
    check_platform,
    choose_python,
    dotted,
    is_supported,
    package_index,
    query,
)

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
STAMP_NAME = '.installed'
EXTRAS = 'openmmlab,pretrain,report,test'
# A change of any of these leads to a new installation.
SOURCES = ('setup.py', 'pyproject.toml', 'bootstrap/make_venv.py')
# Settings of the caller's shell that would send packages elsewhere.
FOREIGN_VARIABLES = (
    'PYTHONPATH',
    'PYTHONHOME',
    'PIP_USER',
    'PIP_TARGET',
    'PIP_PREFIX',
)
WHEEL_NAME = re.compile(r'pip-(\d+(?:\.\d+)*)-py3-none-any\.whl')


def tree_bytes(folder: Path) -> int:
    """Bytes of the files below a folder, 0 if it does not exist."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, names in os.walk(str(folder))
        for name in names
    )


def newest_wheel(page: dict, python) -> dict:
    """The newest pip wheel on an index page that this Python may use."""

    def numbers(text):
        return tuple(int(part) for part in text.split('.'))

    usable = []
    for entry in page['files']:
        name = WHEEL_NAME.fullmatch(entry['filename'])
        floor = re.fullmatch(r'>=(3\.\d+)', entry.get('requires-python') or '')
        if not name or not floor or entry.get('yanked'):
            continue
        if numbers(floor.group(1)) <= python:
            usable.append((numbers(name.group(1)), entry))
    return max(usable, key=lambda each: each[0])[1]


def install_pip(venv_python: str, version, index) -> None:
    """pip for a Python without ``ensurepip``, as Debian ships it.

    The wheel is checked against the sha256 that the index states.
    """
    advice = 'apt install python3-venv, then run the same command again'
    if index is None:
        raise SetupError(
            f'this Python has no ensurepip, and pip no index: {advice}'
        )
    try:
        with ask_index(index) as answer:
            entry = newest_wheel(json.loads(answer.read().decode()), version)
            address = urllib.parse.urljoin(answer.geturl(), entry['url'])
        with urllib.request.urlopen(address, timeout=60) as answer:
            content = answer.read()
    except (OSError, ValueError, KeyError) as error:
        raise SetupError(
            f'no ensurepip, and pip cannot be fetched ({error}): {advice}'
        ) from None
    if hashlib.sha256(content).hexdigest() != entry['hashes']['sha256']:
        raise SetupError(
            f'{address} does not have the sha256 its index states: {advice}'
        )
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder, entry['filename'])
        wheel.write_bytes(content)
        run([venv_python, f'{wheel}/pip', 'install', '-q', str(wheel)])


def run(command) -> None:
    """Run a command; an exit status other than 0 becomes a SetupError."""
    clean = {
        key: value
        for key, value in os.environ.items()
        if key not in FOREIGN_VARIABLES
    }
    # pip unpacks gigabytes into its temporary folder and /tmp may be memory.
    temporary = VENV / 'tmp'
    temporary.mkdir(parents=True, exist_ok=True)
    clean['TMPDIR'] = str(temporary)
    try:
        subprocess.run(command, cwd=str(ROOT), env=clean, check=True)
    except subprocess.CalledProcessError:
        raise SetupError(
            f'"{" ".join(command)}" failed, its own message is above; the '
            'same command again goes on from here'
        ) from None
    finally:
        shutil.rmtree(str(temporary))


def import_error(venv_python: str, module: str) -> str:
    """The last line of what importing a module says, '' if it works."""
    answer = subprocess.run(
        [venv_python, '-I', '-c', 'import ' + module],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        check=False,
    )
    if answer.returncode == 0:
        return ''
    lines = answer.stderr.strip().splitlines()
    return lines[-1] if lines else f'exit status {answer.returncode}'


def use_headless_opencv(venv_python: str, why: str) -> None:
    """Swap opencv-python, which mmcv asks for, for its build without a GUI.

    Slim machines have no libGL or libglib, and nothing here opens a window.
    """
    print(f'setup: {why}; taking opencv-python-headless instead', flush=True)
    version = subprocess.check_output(
        [
            venv_python,
            '-c',
            'from importlib.metadata import version;'
            'print(version("opencv-python"))',
        ],
        universal_newlines=True,
    ).strip()
    pip = [venv_python, '-m', 'pip']
    run([*pip, 'uninstall', '-q', '-y', 'opencv-python'])
    # Both wheels hold the same folder, so what is left of it is rewritten.
    anew = ['--only-binary=:all:', '--no-deps', '--force-reinstall']
    headless = f'opencv-python-headless=={version}'
    run([*pip, 'install', '-q', *anew, headless])


def install(python, index) -> None:
    """Fill ``.venv``: pip, the official set, this checkout (editable)."""
    venv_python = str(VENV / 'bin' / 'python')
    if query(venv_python) is None:
        run([python.path, '-m', 'venv', '--without-pip', str(VENV)])
    if import_error(venv_python, 'pip'):
        if python.has_ensurepip:
            run([venv_python, '-m', 'ensurepip', '--default-pip'])
        else:
            install_pip(venv_python, python.version, index)
    pip = [venv_python, '-m', 'pip', 'install', '--only-binary=:all:']
    run([*pip, '-q', '--upgrade', 'pip'])
    run([*pip, '--editable', f'.[{EXTRAS}]'])
    why = import_error(venv_python, 'cv2')
    if why:
        use_headless_opencv(venv_python, why)
    for module in ('cv2', 'torchvision'):
        why = import_error(venv_python, module)
        if why:
            raise SetupError(f'"import {module}" fails in .venv: {why}')


def fingerprint(version) -> str:
    """What an installation depends on, as one line."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((ROOT / name).read_bytes())
    # The folder, because an editable installation breaks when it moves.
    return f'Python {dotted(version)} {ROOT} {digest.hexdigest()}'


def set_up(name=None) -> None:
    """Check, then install, unless ``.venv`` is finished already."""
    stamp = VENV / STAMP_NAME
    present = query(str(VENV / 'bin' / 'python'))
    python = present
    if name or not is_supported(present):
        python = choose_python(name)
    done = fingerprint(python.version)
    if present and stamp.is_file() and stamp.read_text() == done:
        return
    if VENV.exists() and not stamp.is_file():
        raise SetupError(
            f'{VENV} was not made by this: move it away, so that nothing of '
            'it gets replaced'
        )
    check_platform()
    if not check_disk(ROOT, tree_bytes(VENV)):
        os.environ['PIP_NO_CACHE_DIR'] = '1'
    index = package_index()
    check_network(index)
    if VENV.exists() and (not present or present.version != python.version):
        shutil.rmtree(str(VENV))
    VENV.mkdir(exist_ok=True)
    stamp.write_text('unfinished')
    print(
        f'setup: installing into {VENV} for Python {dotted(python.version)}, '
        'about 3 GB to download',
        flush=True,
    )
    install(python, index)
    stamp.write_text(done)


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--python', help='the interpreter to install for')
    options = parser.parse_args(arguments)
    try:
        set_up(options.python or None)
    except SetupError as error:
        sys.exit(f'setup: {error}')
    except KeyboardInterrupt:
        sys.exit('setup: interrupted; the same command again goes on')


if __name__ == '__main__':
    main()
