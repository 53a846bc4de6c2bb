"""From a config file and ``--cfg-options`` to a config that can run."""

import inspect
import os
import tempfile
import traceback
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from ..backbones.zoo import NETWORKS, network
from ..compat import apply_tool_patches
from ..data import use_strict_loader
from ..errors import UserError
from .schedule import stretch_schedule

SPLITS = 'train', 'val', 'test'
# Transforms with sizes of their own, which one number cannot set.
SIZED = {'CachedMixUp', 'CachedMosaic', 'MixUp', 'Mosaic', 'Pad', 'RandomCrop'}


def load_config(
    path: str,
    options: dict | None = None,
    work_dir: str | None = None,
    network: str | None = None,
) -> Config:
    """Read a config and apply what the command line overrides.

    From now on ``LoadImageFromFile`` is the loader that names a bad file,
    and files are written whole or not at all.

    Args:
        path: A file; ``configs/...`` is the package's own where the current
            folder has no such file; or ``package::file`` as in a config's
            ``_base_``.
        options: Keys and values to override.
        work_dir: Overrides the config's; by default
            ``work_dirs/<name of the config>``.
        network: For a classifier's config, a name of `backbones.zoo`.

    Raises:
        UserError: There is no such file, it is not a config, an option has
            no effect, or mmpretrain is needed and not installed.
    """
    file, network = find_config(path, network)
    cfg = _read(file)
    if cfg.get('model') is None:
        raise UserError(
            f'{path} is not the config of a network: it has no model'
        )
    if cfg.get('default_scope') == 'mmpretrain':
        if not find_spec('mmpretrain'):
            raise UserError(
                f'{path} trains a classifier and needs mmpretrain; install '
                'it with  pip install mmpretrain==1.2.0'
            )
        import_modules_from_strings('mmpretrain.datasets')
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    options = options or {}
    _refuse_unknown(cfg, options)
    network = network or options.get('model.network')
    if network:
        choose_network(cfg, network)
    planned = (cfg.get('train_cfg') or {}).get('max_epochs')
    cfg.merge_from_dict(options)
    if planned and 'train_cfg.max_epochs' in options:
        stretch_schedule(cfg, planned)
    if any('pipeline' in option for option in options):
        cfg.image_size_from_data = False
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'work_dirs/{file.stem}'
    for name in SPLITS:
        loader = cfg.get(f'{name}_dataloader')
        # PyTorch refuses workers that persist where there are none.
        if loader and not loader.get('num_workers'):
            loader.persistent_workers = False
    use_strict_loader()
    apply_tool_patches()
    return cfg


def _read(file: Path) -> Config:
    try:
        return Config.fromfile(file, import_custom_modules=False)
    except Exception as error:
        # A config is a program, and may fail in any way.
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f' at line {f.lineno}' for f in frames if f[0] == str(file)]
        raise UserError(
            f'{file} cannot be read as a config: {type(error).__name__}'
            f'{"".join(lines[-1:])}: {error}'.rstrip(': ')
        ) from error


def _refuse_unknown(cfg: Config, options: dict) -> None:
    """Name an option that nobody would read, and what is like it.

    Below the top a config may be given what it does not have, such as an
    argument that is left at its default, so only first names are looked at.
    """
    known = {*cfg, *inspect.signature(Runner).parameters}
    for option in options:
        name = option.partition('.')[0]
        if name not in known:
            like = get_close_matches(name, known, n=1)
            raise UserError(
                f'--cfg-options {option}: {name!r} is neither in the config '
                'nor known to the runner'
                + (f'; did you mean {like[0]!r}?' if like else '')
            )


def find_config(path: str, network: str | None) -> tuple[Path, str | None]:
    """Where a config lies, and the network that it is for.

    ``configs/pretrain/<network>.py``, a file for each network, is what
    ``configs/pretrain.py`` with ``--network`` was until version 0.1.

    Raises:
        UserError: There is no such file.
    """
    file = packaged_config(path) if '::' in path else Path(path)
    if path.startswith('configs/pretrain/'):
        names = {name.replace('_v', 'v'): name for name in NETWORKS}
        network, file = network or names.get(file.stem), file.parent
        file = file.with_suffix('.py')
    if file.parts[:1] == ('configs',) and not file.is_file():
        own = file.relative_to('configs').as_posix()
        file = packaged_config(f'{__package__.partition(".")[0]}::{own}')
    if not file.is_file():
        raise UserError(
            f'config not found: {path}; give one of configs/*.py, a path or '
            'package::file'
        )
    return file, network


def packaged_config(path: str) -> Path:
    """Where an installed package keeps a config, ``package::file``.

    Raises:
        UserError: There is no such package.
    """
    package, _, file = path.partition('::')
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise UserError(
            f'config not found: {path}; {package!r} is not installed'
        )
    folder = Path(spec.origin).parent
    # A checkout that is used in place has them beside the package.
    places = [folder / '.mim' / 'configs' / file, folder.parent / 'configs']
    return places[0] if places[0].is_file() else places[1] / file


def choose_network(cfg: Config, name: str) -> None:
    """Let a classifier's config train another network, of its image size.

    Args:
        cfg: Changed in place.
        name: A key of `backbones.zoo.NETWORKS`.

    Raises:
        UserError: The config is not a classifier's, or no network has that
            name.
    """
    if 'network' not in cfg.model:
        raise UserError(
            f'{cfg.filename} does not take --network; configs/pretrain.py does'
        )
    try:
        size = network(name).input_size
    except ValueError as error:
        raise UserError(f'--network: {error}') from error
    cfg.model.network = name
    # 224 of 256 pixels are looked at.
    sizes = dict(
        RandomResizedCrop=dict(scale=size),
        ResizeEdge=dict(scale=round(size * 256 / 224)),
        CenterCrop=dict(crop_size=size),
    )
    for node in dicts_of([cfg.get(f'{split}_dataloader') for split in SPLITS]):
        if size != 224:
            node.update(sizes.get(node.get('type'), {}))


def dicts_of(node) -> Iterator[dict]:
    """Give every dict inside of a part of a config, itself included."""
    if isinstance(node, dict):
        yield node
        node = node.values()
    elif not isinstance(node, list | tuple):
        return
    for value in node:
        yield from dicts_of(value)


def resizing(
    cfg: Config, split: str, option: str = '--image-size'
) -> list[ConfigDict]:
    """The transforms of a split that resize to one size.

    Raises:
        UserError: There are others with sizes of their own.
    """
    found = []
    for node in dicts_of(cfg.get(f'{split}_dataloader')):
        kind = str(node.get('type')).rpartition('.')[2]
        scale = node.get('scale')
        one = isinstance(scale, list | tuple) and np.shape(scale) == (2,)
        if kind in SIZED or ('Resize' in kind and not one):
            raise UserError(
                f'{option}: {kind} of {cfg.filename} has sizes of its own; '
                'set them by --cfg-options'
            )
        if 'Resize' in kind:
            found.append(node)
    return found


def set_image_size(cfg: Config, size: tuple[int, int]) -> None:
    """Set what images are resized to fit into, in training and testing."""
    for split in SPLITS:
        for step in resizing(cfg, split):
            step.scale = tuple(size)
    cfg.image_size_from_data = False


def evaluators_of(cfg: Config, split: str) -> list[ConfigDict]:
    """The metrics of ``'val'`` or ``'test'``; a config may list several."""
    evaluator = cfg.get(f'{split}_evaluator')
    if not evaluator:
        return []
    return evaluator if isinstance(evaluator, list | tuple) else [evaluator]


def without_pretrained(cfg: Config) -> None:
    """Take out of a config's model the weights that it starts from.

    How it is initialised without them stays.
    """
    for node in dicts_of(cfg.model):
        node.pop('pretrained', None)
        inits = node.get('init_cfg')
        if isinstance(inits, list):
            node['init_cfg'] = [i for i in inits if i.type != 'Pretrained']
        elif inits and inits.type == 'Pretrained':
            del node['init_cfg']


def pretrained_of(backbone: dict) -> dict | None:
    """The part of a backbone's ``init_cfg`` that names a checkpoint."""
    inits = backbone.get('init_cfg') or []
    several = inits if isinstance(inits, list) else [inits]
    found = (init for init in several if init['type'] == 'Pretrained')
    return next(found, None)


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
        raise UserError(
            f'cannot write to the {name} {folder}: {error.strerror}; '
            f'choose another with {option}'
        ) from error
