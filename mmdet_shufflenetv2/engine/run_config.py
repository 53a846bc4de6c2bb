"""From a config file and a command line to a config that can run."""

import os
import tempfile
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from .unknown_options import explain_unknown_option

SPLITS = 'train', 'val', 'test'


class UsageError(ValueError):
    """Something the user gave cannot work; the message says what would."""


def load_config(
    path: str, options: dict | None = None, work_dir: str | None = None
) -> Config:
    """Read a config, apply ``--cfg-options`` and choose the work dir.

    Args:
        path: A file, or ``package::file`` as in a config's ``_base_``.
        options: Keys and values to override.
        work_dir: Overrides the config's; by default
            ``work_dirs/<name of the config>``.

    Raises:
        UsageError: If there is no such file, it is no config, an option
            has no effect, or mmpretrain is needed and not installed.
    """
    file = packaged_config(path) if '::' in path else Path(path)
    if not file.is_file():
        raise UsageError(
            f'config not found: {path}; give one of configs/*.py, a path or '
            'package::file'
        )
    cfg = _read(file)
    if cfg.get('model') is None:
        raise UsageError(f'{path} is no config of a network: it has no model')
    if cfg.get('default_scope') == 'mmpretrain' and not find_spec(
        'mmpretrain'
    ):
        raise UsageError(
            f'{path} trains a classifier and needs mmpretrain; install it '
            'with  pip install mmpretrain==1.2.0'
        )
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    if options:
        problem = explain_unknown_option(cfg, options)
        if problem:
            raise UsageError(problem)
        cfg.merge_from_dict(options)
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / file.stem)
    read_images_strictly(cfg)
    return cfg


def _read(file: Path) -> Config:
    try:
        return Config.fromfile(file, import_custom_modules=False)
    except Exception as error:
        # A config is a program, and may fail in any way.
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f' at line {f.lineno}' for f in frames if f[0] == str(file)]
        raise UsageError(
            f'{file} cannot be read as a config: {type(error).__name__}'
            f'{"".join(lines[-1:])}: {error}'.rstrip(': ')
        ) from error


def packaged_config(path: str) -> Path:
    """Where an installed OpenMMLab package keeps a config.

    Args:
        path: ``package::file``.

    Raises:
        UsageError: If there is no such package.
    """
    package, _, file = path.partition('::')
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise UsageError(
            f'config not found: {path}; the package {package!r} is not '
            'installed'
        )
    folder = Path(spec.origin).parent
    # A checkout that is used in place has them beside the package.
    places = [folder / '.mim' / 'configs' / file, folder.parent / 'configs']
    return places[0] if places[0].is_file() else places[1] / file


def dicts_of(node) -> Iterator[dict]:
    """Give every dict inside of a part of a config, itself included."""
    if isinstance(node, dict):
        yield node
        node = node.values()
    elif not isinstance(node, list | tuple):
        return
    for value in node:
        yield from dicts_of(value)


def without_pretrained(cfg: Config) -> None:
    """Take out of a config's model the weights that it starts from."""
    for node in dicts_of(cfg.model):
        node.pop('pretrained', None)
        inits = node.get('init_cfg')
        several = inits if isinstance(inits, list) else [inits]
        if any((i or {}).get('type') == 'Pretrained' for i in several):
            del node['init_cfg']


def read_images_strictly(cfg: Config) -> None:
    """Exchange mmcv's image loading for the one that names a bad file.

    The configs name mmcv's, which mmdet's own tools look for.
    """
    loaders = [cfg.get(f'{name}_dataloader') for name in SPLITS]
    for node in dicts_of(loaders):
        if node.get('type') == 'LoadImageFromFile':
            node['type'] = 'mmdet.LoadImageStrict'


def require_writable(
    folder: str, name: str = 'work dir', option: str = '--work-dir'
) -> None:
    """Make a folder, or say that nothing can be written there.

    Args:
        folder: Its path.
        name, option: What the message calls it, and what changes it.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f'cannot write to the {name} {folder}: {error.strerror}; '
            f'choose another with {option}'
        ) from error


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with a word on how to go on."""
