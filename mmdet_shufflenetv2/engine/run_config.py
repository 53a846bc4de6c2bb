"""Load a run's config and adapt it to options and checkpoints."""

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
# Transforms with sizes of their own, which one image size cannot set.
SIZED = {'CachedMixUp', 'CachedMosaic', 'MixUp', 'Mosaic', 'Pad', 'RandomCrop'}


def load_config(
    path: str, options: dict | None = None, network: str | None = None
) -> Config:
    """Read a config and apply overrides from the command line.

    As a side effect, ``LoadImageFromFile`` names the file that it cannot read,
    and files are written atomically from now on.

    Args:
        path: See :func:`find_config`.
        options: Values to override, by their dotted keys.
        network: Name in `backbones.zoo`, for a classifier's config.
    """
    options = options or {}
    file = find_config(path)
    try:
        cfg = Config.fromfile(file, import_custom_modules=False)
    except Exception as error:  # A config is Python code.
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
                f'{path} trains a classifier and needs mmpretrain: '
                'pip install mmpretrain==1.2.0'
            )
        import_modules_from_strings('mmpretrain.datasets')
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    # Nested options may set arguments that the config leaves out.
    known = {*cfg, *inspect.signature(Runner).parameters}
    for option in options:
        name = option.partition('.')[0]
        if name not in known:
            similar = ', '.join(get_close_matches(name, known)) or 'none'
            raise UserError(
                f'--cfg-options {option}: {name!r} is neither in the config '
                f'nor an argument of the runner; similar names: {similar}'
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
        # PyTorch rejects persistent workers if there are no workers.
        if loader and not loader.get('num_workers'):
            loader.persistent_workers = False
    use_strict_loader()
    apply_tool_patches()
    return cfg


def find_config(path: str) -> Path:
    """Find the file of a config.

    ``package::file`` is a config of an installed package, as in ``_base_``.
    ``configs/...`` falls back to this package's own configs.
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
    """Path of an installed package's config, given as ``package::file``."""
    package, _, file = path.partition('::')
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        return Path(path)
    folder = Path(spec.origin).parent
    installed = folder / '.mim' / 'configs' / file
    # A checkout has its configs next to the package.
    checkout = folder.parent / 'configs' / file
    return installed if installed.is_file() else checkout


def choose_network(cfg: Config, name: str) -> None:
    """Set the network of a classifier's config, and its image size."""
    if 'network' not in cfg.model:
        raise UserError(
            f'--network is for configs/pretrain.py, got {cfg.filename}'
        )
    try:
        size = network(name).input_size
    except ValueError as error:
        raise UserError(f'--network: {error}') from error
    cfg.model.network = name
    # As usual, the central 224 of 256 pixels are used in testing.
    sizes = dict(
        RandomResizedCrop=dict(scale=size),
        ResizeEdge=dict(scale=round(size * 256 / 224)),
        CenterCrop=dict(crop_size=size),
    )
    for node in dicts_of([cfg.get(f'{split}_dataloader') for split in SPLITS]):
        if size != 224:
            node.update(sizes.get(node.get('type'), {}))


def dicts_of(node) -> Iterator[dict]:
    """Yield every dict in a part of a config, including the part itself."""
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
    """The resizing transforms of a split; each must have a single size."""
    found = []
    for node in dicts_of(cfg.get(f'{split}_dataloader')):
        kind = str(node.get('type')).rpartition('.')[2]
        scale = node.get('scale')
        one = isinstance(scale, list | tuple) and np.shape(scale) == (2,)
        if kind in SIZED or ('Resize' in kind and not one):
            raise UserError(
                f'{option}: {kind} in {cfg.filename} has sizes of its own; '
                'set them with --cfg-options'
            )
        if 'Resize' in kind:
            found.append(node)
    return found


def set_image_size(cfg: Config, size: tuple[int, int]) -> None:
    """Set the size that images are resized to fit into, in all splits."""
    for split in SPLITS:
        for step in resizing(cfg, split):
            step.scale = tuple(size)
    cfg.image_size_from_data = False


def pretrained_of(backbone: dict) -> dict | None:
    """The entry of a backbone's ``init_cfg`` that names a checkpoint."""
    inits = backbone.get('init_cfg') or []
    inits = inits if isinstance(inits, list) else [inits]
    return next((i for i in inits if i['type'] == 'Pretrained'), None)


def without_pretrained(cfg: Config) -> None:
    """Remove pretrained weights from a config's model."""
    for node in dicts_of(cfg.model):
        node.pop('pretrained', None)
        inits = node.get('init_cfg')
        if isinstance(inits, list):
            node['init_cfg'] = [i for i in inits if i.type != 'Pretrained']
        elif inits and inits.type == 'Pretrained':
            del node['init_cfg']


def checkpoint_classes(checkpoint: dict) -> tuple[str, ...] | None:
    """The class names that training stored in a checkpoint."""
    meta = meta_of(checkpoint).get('dataset_meta') or {}
    classes = meta.get('classes')
    return tuple(map(str, classes)) if classes else None


def adopt(cfg: Config, checkpoint: dict, source: str) -> None:
    """Adapt a config to the input format that a checkpoint expects.

    With ``image_size_from_data``, also to the image size of its training.
    """
    adopt_input_format(cfg, declared_format(checkpoint, source), source)
    size = meta_of(checkpoint).get('image_size')
    if size and cfg.get('image_size_from_data'):
        set_image_size(cfg, size)


def adopt_input_format(
    cfg: Config, expected: InputFormat | None, source: str
) -> None:
    """Let the data preprocessor deliver the expected format, if known."""
    preprocessor = cfg.model.get('data_preprocessor')
    if expected is None or preprocessor is None:
        return
    options = expected.preprocessor_options(preprocessor)
    if any(preprocessor.get(key) != options[key] for key in options):
        preprocessor.update(options)
        print_log(f'Input format expected by {source}: {expected}', 'current')


def require_writable(
    folder: str, name: str = 'work dir', option: str = '--work-dir'
) -> None:
    """Create a folder; `UserError` names it and its option on failure."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f'cannot write to the {name} {folder}: {error.strerror}; '
            f'choose another with {option}'
        ) from error
