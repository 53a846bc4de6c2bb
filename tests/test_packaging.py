"""What a wheel of this project holds, and that a copy of it works alone.

The wheel is built from the source distribution, so both are covered.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from mmdet_shufflenetv2 import __version__
from mmdet_shufflenetv2.__main__ import main

SOURCES = (
    'setup.py',
    'pyproject.toml',
    'MANIFEST.in',
    'model-index.yml',
    'README.md',
    'CHANGELOG.md',
    'LICENSE',
    'mmdet_shufflenetv2',
    'configs',
    'tools',
)
# In a process of its own: the package as unpacked from the wheel, seen from
# a folder that has nothing, and without the optional libraries.
USE_OF_THE_COPY = """
import sys
from pathlib import Path
sys.modules['pytorchcv'] = None
import mmdet_shufflenetv2
from mmdet_shufflenetv2.__main__ import main, resource_root
from mmengine.config import Config

copy = Path(sys.argv[1])
assert Path(mmdet_shufflenetv2.__file__).is_relative_to(copy)
root = resource_root()
assert root.is_relative_to(copy), root
for path in root.glob('configs/[!_]*.py'):
    Config.fromfile(path)
main([])
main(['train', '--help'])
"""


def run(*command, **options) -> str:
    """A command's output; what it said is in the error when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def wheel(root, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('packaging')
    source = folder / 'source'
    source.mkdir()
    for name in SOURCES:
        path = root / name
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, source / name)
    build_sdist = (
        'from setuptools.build_meta import build_sdist;'
        f'build_sdist({str(folder)!r})'
    )
    run(sys.executable, '-c', build_sdist, cwd=source)
    (sdist,) = folder.glob('*.tar.gz')
    pip = [sys.executable, '-m', 'pip', 'wheel', '--no-index', '--no-deps']
    options = ['--no-build-isolation', '--wheel-dir', str(folder)]
    run(*pip, *options, str(sdist))
    (built,) = folder.glob('*.whl')
    return built


def relative_files(root: Path, name: str) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for path in (root / name).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


@pytest.mark.parametrize('name', ['configs', 'tools'])
def test_wheel_carries_every_config_and_tool(root, wheel, name):
    inside = 'mmdet_shufflenetv2/.mim/'
    with zipfile.ZipFile(wheel) as archive:
        carried = {
            each.removeprefix(inside)
            for each in archive.namelist()
            if each.startswith(f'{inside}{name}/')
        }
    assert carried == relative_files(root, name)


def test_wheel_carries_the_index_of_models(root, wheel):
    with zipfile.ZipFile(wheel) as archive:
        index = archive.read('mmdet_shufflenetv2/.mim/model-index.yml')
    assert index == (root / 'model-index.yml').read_bytes()


def test_wheel_carries_the_package_and_nothing_else(root, wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {
            name
            for name in archive.namelist()
            if '/.mim/' not in name and '.dist-info/' not in name
        }
    assert files == relative_files(root, 'mmdet_shufflenetv2')


@pytest.fixture(scope='module')
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (
            each for each in archive.namelist() if each.endswith('/METADATA')
        )
        return Parser().parsestr(archive.read(name).decode())


def test_plain_installation_requires_and_so_replaces_nothing(metadata):
    requirements = metadata.get_all('Requires-Dist')
    assert requirements
    assert all('; extra ==' in each for each in requirements), requirements


def test_official_set_is_an_extra(metadata):
    extra = {
        each.partition(';')[0].strip()
        for each in metadata.get_all('Requires-Dist')
        if 'extra == "openmmlab"' in each
    }
    assert extra >= {
        'mmdet==3.3.0',
        'mmcv-lite==2.1.0',
        'mmengine==0.10.7',
        'torch>=2.4',
    }


def test_metadata_states_version_licence_and_python(metadata):
    assert metadata['Version'] == __version__
    assert metadata['License'] == 'MIT'
    assert metadata['Requires-Python'] == '>=3.10'


def test_unpacked_wheel_works_without_a_checkout(wheel, tmp_path):
    site = tmp_path / 'site'
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    empty = tmp_path / 'empty'
    empty.mkdir()
    said = run(
        sys.executable,
        '-c',
        USE_OF_THE_COPY,
        str(site),
        cwd=empty,
        env={**os.environ, 'PYTHONPATH': str(site)},
    )
    assert f'configs: {site}' in said
    assert '--work-dir' in said


def test_unknown_tool_is_told_with_those_there_are():
    with pytest.raises(SystemExit, match=r"one of .*train.*, got 'fly'"):
        main(['fly'])


def test_pre_commit_formats_with_the_ruff_of_the_tests(root):
    text = (root / '.pre-commit-config.yaml').read_text()
    (hook,) = re.findall(r'rev: v([\d.]+)', text)
    (pinned,) = re.findall(
        r"'ruff==([\d.]+)'", (root / 'setup.py').read_text()
    )
    assert hook == pinned
