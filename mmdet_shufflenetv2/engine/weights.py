"""Load weights into a network from a backbone's or a detector's file."""

import ast
import copy
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..backbones.pretrained import find_fit, mismatches, phrases
from ..backbones.zoo import network
from ..compat.checkpoints import CheckpointError
from ..compat.input_format import (
    declared_format,
    meta_of,
    require_same_input,
)
from ..data.table import shorten
from ..errors import UserError
from .run_config import (
    adopt,
    adopt_input_format,
    checkpoint_classes,
    dicts_of,
)
from .run_data import set_classes


def load_fitting(model: nn.Module, filename: str) -> None:
    """Load a checkpoint after checking it with :func:`fitting`."""
    checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
    checkpoint = fitting(model, checkpoint, filename)
    model.load_state_dict(checkpoint['state_dict'])


def fitting(model: nn.Module, checkpoint: dict, filename: str) -> dict:
    """Rename a checkpoint's entries as needed and check them against a model.

    `CheckpointError` names what does not fit: missing, unexpected or
    differently shaped entries, or another input format than the model gives.
    """
    if 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint)
    checkpoint.setdefault('meta', {})
    state = checkpoint['state_dict'] = with_current_names(
        model, checkpoint['state_dict']
    )
    averaged = checkpoint.get('ema_state_dict')
    if averaged:
        steps = {k: averaged.pop(k) for k in ('steps',) if k in averaged}
        checkpoint['ema_state_dict'] = steps | {
            f'module.{key}': value
            for key, value in with_current_names(model, averaged).items()
        }
    problems = phrases(mismatches(model.state_dict(), state))
    # Different styles of a network can have the same shapes.
    declared = meta_of(checkpoint).get('style')
    own = getattr(getattr(model, 'backbone', None), 'style', None)
    if None not in (declared, own) and declared != own:
        problems.append(
            f'it has style {declared!r}, but the backbone has {own!r}; add '
            f'--cfg-options model.backbone.style={declared}'
        )
    if problems:
        if not state.keys() & model.state_dict().keys():
            problems.append(
                'no entry has a name in the model; tools/'
                'convert_checkpoint.py converts weights of other projects'
            )
        classes = checkpoint_classes(checkpoint)
        if classes:
            problems.append(
                f'the checkpoint has {len(classes)} classes: '
                + shorten(classes)
            )
        if name := getattr(model, 'network_name', None):
            problems.append(f'the model is {name}; --network names another')
        configs = sorted(Path(filename).parent.glob('*.py'))
        if configs:
            problems.append(
                'the config of its run is next to it: '
                + ', '.join(map(str, configs))
            )
        raise CheckpointError(
            f'{filename} does not fit the model of this config:\n  '
            + '\n  '.join(problems)
        )
    require_same_input(filename, declared_format(checkpoint, filename), model)
    return checkpoint


def with_current_names(
    model: nn.Module, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Rename a checkpoint's weights from former names to current ones."""
    state = {k.removeprefix('module.'): v for k, v in state.items()}
    for name, module in model.named_modules():
        if hasattr(module, 'rename_former_keys'):
            module.rename_former_keys(state, f'{name}.' if name else '')
    return state


def load_detector(
    path: str | os.PathLike,
    config: Config | str | os.PathLike | None = None,
    device: str = 'cpu',
    cfg_options: dict | None = None,
) -> nn.Module:
    """Build a checkpoint's detector, with the classes of the checkpoint.

    The model is in evaluation mode and has the attributes ``cfg`` and
    ``dataset_meta`` that ``mmdet.apis.inference_detector`` needs.

    Args:
        path: Checkpoint file.
        config: Config or its path; default: the one stored in the file. Its
            classes and input format are replaced by the checkpoint's.
        device: Device of the model.
        cfg_options: Overrides of the config.

    Raises:
        UserError: The file or device does not exist, there is no config of a
            detector, or the checkpoint does not fit the config.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise UserError(f'checkpoint {path}: no such file')
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise UserError(f'device {device}: {reason}') from error
    checkpoint = CheckpointLoader.load_checkpoint(path, 'cpu', logger=None)
    if config is None:
        cfg = read_config((checkpoint.get('meta') or {}).get('cfg'), path)
    elif isinstance(config, Config):
        cfg = copy.deepcopy(config)
    else:
        cfg = Config.fromfile(os.fspath(config))
    cfg.merge_from_dict(cfg_options or {})
    if cfg.get('default_scope') == 'mmpretrain':
        raise UserError(
            f'checkpoint {path}: expected a detector, got a classifier; '
            'test it with tools/test.py CONFIG CKPT --eval error'
        )
    classes = checkpoint_classes(checkpoint)
    if classes:
        set_classes(cfg, classes)
    adopt(cfg, checkpoint, path)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    # The checkpoint overwrites pretrained weights, so do not read them.
    cfg.model.backbone.pop('init_cfg', None)
    model = MODELS.build(cfg.model)
    checkpoint = fitting(model, checkpoint, path)
    model.load_state_dict(checkpoint['state_dict'])
    if not classes:
        head = getattr(model, 'roi_head', model).bbox_head
        classes = (*map(str, range(head.num_classes)),)
    model.cfg = cfg
    model.dataset_meta = dict(classes=classes, palette='random')
    return model.to(device).eval()


def read_config(text: str | None, path: str) -> Config:
    """Parse the Python config that training stored in a checkpoint.

    The text is not executed, as its source may be untrusted. It may contain
    what mmengine writes: assignments of literals, ``dict(...)``, ``float()``.
    """
    try:
        lines = (
            (each.targets[0].id, each.value) for each in ast.parse(text).body
        )
        return Config({name: _value(node) for name, node in lines})
    except (SyntaxError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f'checkpoint {path}: contains no readable config ({error}); '
            'specify the config file that it was trained with'
        ) from error


def _value(node: ast.expr):
    name = getattr(getattr(node, 'func', None), 'id', None)
    if name == 'float':
        return float(ast.literal_eval(node.args[0]))
    if name == 'dict':
        # mmengine writes keys that are not identifiers as dict({...}).
        given = [pair for each in node.args for pair in _value(each).items()]
        return dict(given, **{k.arg: _value(k.value) for k in node.keywords})
    if isinstance(node, ast.List | ast.Tuple):
        kind = list if isinstance(node, ast.List) else tuple
        return kind(map(_value, node.elts))
    if isinstance(node, ast.Dict):
        keys, values = map(_value, node.keys), map(_value, node.values)
        return dict(zip(keys, values, strict=True))
    return ast.literal_eval(node)


def build_on_meta(config: Mapping, scope: str = 'mmdet') -> nn.Module:
    """Build a config's model on the meta device, without memory or values."""
    config = {k: v for k, v in config.items() if k != 'init_cfg'}
    with DefaultScope.overwrite_default_scope(scope), torch.device('meta'):
        return MODELS.build(config)


def use_backbone_weights(cfg: Config, filename: str) -> None:
    """Initialise the backbone of a config from a file.

    Also sets the ``style`` and the input format of the weights in the config,
    if they are known. `CheckpointError` names what does not fit.
    """
    content = CheckpointLoader.load_checkpoint(filename, 'cpu')
    own, scope = cfg.model.backbone, cfg.get('default_scope') or 'mmdet'
    base = {}
    if 'network' in cfg.model:
        base, scope = network(cfg.model.network).config, 'mmdet'
    backbone = build_on_meta(base | own, scope)
    # The config's style is used if the file does not determine it.
    fit = find_fit(backbone, content, filename, style=own.get('style'))
    style = getattr(backbone, 'style', None)
    if style and fit.style not in (None, style):
        own.style = fit.style
        print_log(
            f'Backbone style set to that of {filename}: {fit.style}', 'current'
        )
        backbone = build_on_meta(base | own, scope)
        fit = find_fit(backbone, content, filename, style=fit.style)
    fit.check(backbone, filename)
    adopt_input_format(cfg, fit.expected_input, filename)
    init_cfg = dict(type='Pretrained', checkpoint=filename)
    if hasattr(backbone, 'formats'):
        if fit.style and not fit.found:
            init_cfg['style'] = fit.style
    # Other backbones are loaded by mmengine, which strips 'module.' itself.
    elif fit.prefix not in ('', 'module.'):
        init_cfg['prefix'] = fit.prefix
    own.init_cfg = init_cfg


def adopt_input_of(cfg: Config, filename: str) -> None:
    """Adapt a config to the input format of a detector's checkpoint."""
    checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
    adopt_input_format(cfg, declared_format(checkpoint, filename), filename)


def load_other_classes(
    model: nn.Module, cfg: Config, filename: str, classes: tuple[str, ...]
) -> None:
    """Load a checkpoint of the same detector with other classes.

    Class layers get the rows of the classes that both have, by name.

    Args:
        model: Model of ``cfg``.
        cfg: Config of the run.
        filename: Checkpoint file.
        classes: Class names of the run, in label order.
    """
    checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
    known = checkpoint_classes(checkpoint)
    if known is None:
        raise CheckpointError(
            f'--from {filename}: expected a checkpoint with class names in '
            "meta['dataset_meta'], got none"
        )
    state = with_current_names(model, checkpoint.get('state_dict', checkpoint))
    target = model.state_dict()
    layers = _class_layers(cfg, target, len(classes))
    # Shapes of this config's network with the checkpoint's classes.
    wanted = dict(target)
    for key, rows in layers.items():
        count = len(target[key]) + rows * (len(known) - len(classes))
        wanted[key] = torch.empty(count, *target[key].shape[1:], device='meta')
    problems = phrases(mismatches(wanted, state))
    if problems:
        raise CheckpointError(
            f'--from {filename} has {len(known)} classes and does not fit the '
            'network of this config:\n  ' + '\n  '.join(problems)
        )
    for key, rows in layers.items():
        # One-stage heads order rows by anchor and then by class; two-stage
        # heads keep the rows of a class together.
        anchors = rows if key.startswith('bbox_head.') else 1
        new = _transposed(target[key], anchors).clone()
        old = _transposed(state[key], anchors).to(new)
        # Now all rows of a class are adjacent, and the background is last.
        for label, name in enumerate(classes):
            if name in known:
                start = known.index(name) * rows
                new[label * rows :][:rows] = old[start:][:rows]
        new[len(classes) * rows :] = old[len(known) * rows :]
        state[key] = _transposed(new, len(new) // anchors)
    model.load_state_dict({k: state[k] for k in target})
    shared = [name for name in classes if name in known]
    new = [name for name in classes if name not in known]
    print_log(
        f'Started from {filename}: all of {len(target) - len(layers)} tensors;'
        f' of {len(layers)} class layers the rows of '
        + (f'{len(shared)} classes ({shorten(shared)})' if shared else 'none')
        + (f'; new: {shorten(new)}' if new else ''),
        'current',
    )


def _class_layers(cfg: Config, state: Mapping, count: int) -> dict[str, int]:
    """Map entries whose size depends on the classes to rows per class."""
    config = copy.deepcopy(cfg.model)
    for node in dicts_of(config):
        if 'num_classes' in node:
            node['num_classes'] = count + 1
    scope = cfg.get('default_scope') or 'mmdet'
    grown = build_on_meta(config, scope).state_dict()
    return {
        key: len(grown[key]) - len(value)
        for key, value in state.items()
        if grown[key].shape != value.shape
    }


def _transposed(layer: Tensor, blocks: int) -> Tensor:
    """Reorder rows (blocks * n, ...) to (n * blocks, ...)."""
    return layer.unflatten(0, (blocks, -1)).transpose(0, 1).flatten(0, 1)
