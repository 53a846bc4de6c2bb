"""What a wheel of this project holds, and that a copy of it works alone.

The wheel is built from the source distribution, so both are covered.
"""

import shutil
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from commands import python

from mmdet_shufflenetv2 import __version__

FILES = (
    *('setup.py', 'pyproject.toml', 'MANIFEST.in', 'model-index.yml'),
    *('README.md', 'CHANGELOG.md', 'LICENSE'),
)
FOLDERS = 'mmdet_shufflenetv2', 'configs', 'tools'
# In a process of its own: the package as unpacked from the wheel, seen from
# a folder that has nothing, and without the optional libraries.
USE_OF_THE_COPY = """
import sys
sys.modules['pytorchcv'] = None
from mmdet_shufflenetv2.__main__ import main
from mmdet_shufflenetv2.cli import resource_root
from mmengine.config import Config

for path in resource_root().glob('configs/[!_]*.py'):
    Config.fromfile(path)
main([])
main(['train', '--help'])
"""


@pytest.fixture(scope='module')
def wheel(root, tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp('packaging')
    for name in FILES:
        (folder / 'source').mkdir(exist_ok=True)
        shutil.copy(root / name, folder / 'source')
    for name in FOLDERS:
        shutil.copytree(root / name, folder / 'source' / name)
    build = 'from setuptools.build_meta import build_sdist; build_sdist("..")'
    python('-c', build, cwd=folder / 'source')
    (sdist,) = folder.glob('*.tar.gz')
    pip = '-m', 'pip', 'wheel', '--no-index', '--no-deps'
    options = '--no-build-isolation', '--wheel-dir', folder
    python(*pip, *options, sdist)
    (built,) = folder.glob('*.whl')
    with zipfile.ZipFile(built) as archive:
        yield archive


def files_of(root: Path, *folders: str) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for folder in folders
        for path in (root / folder).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


def test_wheel_carries_package_configs_tools_and_index_alone(root, wheel):
    carried = files_of(root, 'configs', 'tools') | {'model-index.yml'}
    inside = {f'mmdet_shufflenetv2/.mim/{name}' for name in carried}
    files = {name for name in wheel.namelist() if '.dist-info/' not in name}
    assert files == files_of(root, 'mmdet_shufflenetv2') | inside


def test_installing_it_replaces_nothing_and_the_official_set_is_an_extra(
    wheel,
):
    (name,) = (n for n in wheel.namelist() if n.endswith('/METADATA'))
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata['Version'] == __version__
    assert metadata['Requires-Python'] == '>=3.10'
    needed = [each.split('; ') for each in metadata.get_all('Requires-Dist')]
    assert all(condition.startswith('extra ==') for _, condition in needed)
    extra = {what for what, asked in needed if asked == 'extra == "openmmlab"'}
    assert extra >= {'mmdet==3.3.0', 'mmcv-lite==2.1.0', 'mmengine==0.10.7'}


def test_unpacked_wheel_works_without_a_checkout(wheel, tmp_path):
    site, empty = tmp_path / 'site', tmp_path / 'empty'
    wheel.extractall(site)
    empty.mkdir()
    said = python('-c', USE_OF_THE_COPY, cwd=empty, PYTHONPATH=str(site))
    assert f'configs: {site}' in said
    assert '--work-dir' in said
