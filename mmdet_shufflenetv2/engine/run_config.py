"""A run's config: from its file, ``--cfg-options`` and checkpoint."""

import inspect
import os
import tempfile
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from ..backbones.zoo import network
from ..compat import apply_tool_patches
from ..compat.input_format import InputFormat, declared_format, meta_of
from ..data import use_strict_loader
from ..errors import UserError
from .schedule import stretch_schedule

SPLITS = 'train', 'val', 'test'
# Transforms with sizes of their own, which one number cannot set.
SIZED = {'CachedMixUp', 'CachedMosaic', 'MixUp', 'Mosaic', 'Pad', 'RandomCrop'}


def load_config(
    path: str, options: dict | None = None, network: str | None = None
) -> Config:
    """Read a config and apply what the command line overrides.

    From now on ``LoadImageFromFile`` is the loader that names a bad file,
    and files are written whole or not at all.

    Args:
        path: See :func:`find_config`.
        options: Keys and values to override.
        network: For a classifier's config, a name of `backbones.zoo`.
    """
    options = options or {}
    file = find_config(path)
    try:
        cfg = Config.fromfile(file, import_custom_modules=False)
    except Exception as error:  # A config is a program.
        raise UserError(
            f'{file} cannot be read as a config: '
            f'{type(error).__name__}: {error}'
        ) from error
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
    # Below the top an option may set what the config leaves at a default.
    known = {*cfg, *inspect.signature(Runner).parameters}
    for option in options:
        name = option.partition('.')[0]
        if name not in known:
            like = ', '.join(get_close_matches(name, known))
            raise UserError(
                f'--cfg-options {option}: {name!r} is neither in the config '
                f'nor known to the runner; similar names: {like or "none"}'
            )
    network = network or options.get('model.network')
    if network:
        choose_network(cfg, network)
    planned = (cfg.get('train_cfg') or {}).get('max_epochs')
    cfg.merge_from_dict(options)
    if 'train_cfg.max_epochs' in options:
        stretch_schedule(cfg, planned)
    if any('pipeline' in option for option in options):
        cfg.image_size_from_data = False
    cfg.work_dir = cfg.get('work_dir') or f'work_dirs/{file.stem}'
    for name in SPLITS:
        loader = cfg.get(f'{name}_dataloader')
        # PyTorch refuses workers that persist where there are none.
        if loader and not loader.get('num_workers'):
            loader.persistent_workers = False
    use_strict_loader()
    apply_tool_patches()
    return cfg


def find_config(path: str) -> Path:
    """Where a config lies.

    ``package::file`` is an installed package's, as in a ``_base_``;
    ``configs/...`` our own, where the current folder has none of that name.
    """
    file = packaged_config(path) if '::' in path else Path(path)
    if file.parts[:1] == ('configs',) and not file.is_file():
        own = file.relative_to('configs').as_posix()
        file = packaged_config(f'{__package__.partition(".")[0]}::{own}')
    if not file.is_file():
        raise UserError(
            f'config not found: {path}; expected one of configs/*.py, a path '
            'or package::file of an installed package'
        )
    return file


def packaged_config(path: str) -> Path:
    """Where an installed package keeps a config, ``package::file``."""
    package, _, file = path.partition('::')
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        return Path(path)
    folder = Path(spec.origin).parent
    # A checkout that is used in place has them beside the package.
    places = folder / '.mim' / 'configs' / file, folder.parent / 'configs'
    return places[0] if places[0].is_file() else places[1] / file


def choose_network(cfg: Config, name: str) -> None:
    """Let a classifier's config train another network, of its image size."""
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
    """The transforms of a split that resize; all have to, to one size."""
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


def pretrained_of(backbone: dict) -> dict | None:
    """The part of a backbone's ``init_cfg`` that names a checkpoint."""
    inits = backbone.get('init_cfg') or []
    several = inits if isinstance(inits, list) else [inits]
    found = (init for init in several if init['type'] == 'Pretrained')
    return next(found, None)


def without_pretrained(cfg: Config) -> None:
    """Take the weights that a config's model starts from out of it."""
    for node in dicts_of(cfg.model):
        node.pop('pretrained', None)
        inits = node.get('init_cfg')
        if isinstance(inits, list):
            node['init_cfg'] = [i for i in inits if i.type != 'Pretrained']
        elif inits and inits.type == 'Pretrained':
            del node['init_cfg']


def checkpoint_classes(checkpoint: dict) -> tuple[str, ...] | None:
    """Give the class names that training wrote into a checkpoint."""
    meta = meta_of(checkpoint).get('dataset_meta') or {}
    classes = meta.get('classes')
    return tuple(map(str, classes)) if classes else None


def adopt(cfg: Config, checkpoint: dict, source: str) -> None:
    """Let a config give a network the images that its checkpoint expects.

    The size too, where the config says ``image_size_from_data``.
    """
    adopt_input_format(cfg, declared_format(checkpoint, source), source)
    size = meta_of(checkpoint).get('image_size')
    if size and cfg.get('image_size_from_data'):
        set_image_size(cfg, size)


def adopt_input_format(
    cfg: Config, expected: InputFormat | None, source: str
) -> None:
    """Let the data preprocessor deliver what weights expect, if known."""
    preprocessor = cfg.model.get('data_preprocessor')
    if expected is None or preprocessor is None:
        return
    options = expected.preprocessor_options(preprocessor)
    if any(preprocessor.get(key) != options[key] for key in options):
        preprocessor.update(options)
        print_log(f'Images as {source} expects them: {expected}', 'current')


def require_writable(
    folder: str, name: str = 'work dir', option: str = '--work-dir'
) -> None:
    """Make a folder, or say what it is and which option changes it."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f'cannot write to the {name} {folder}: {error.strerror}; '
            f'choose another with {option}'
        ) from error
