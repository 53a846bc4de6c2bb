"""What a network gets its weights from: a backbone's file, a detector's."""

import copy
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
from .run_config import (
    adopt,
    adopt_input_format,
    checkpoint_classes,
    dicts_of,
)
from .run_data import set_classes


def load_fitting(model: nn.Module, filename: str) -> None:
    """Load a checkpoint that is as :func:`fitting` wants it."""
    checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
    checkpoint = fitting(model, checkpoint, filename)
    model.load_state_dict(checkpoint['state_dict'])


def fitting(model: nn.Module, checkpoint: dict, filename: str) -> dict:
    """A checkpoint that holds exactly the model's entries, by their names of
    today.

    `CheckpointError` names what does not fit, or says that it expects other
    images than the model gives.
    """
    if 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint)
    checkpoint.setdefault('meta', {})
    state = checkpoint['state_dict'] = names_of_today(
        model, checkpoint['state_dict']
    )
    averaged = checkpoint.get('ema_state_dict')
    if averaged:
        steps = {k: averaged.pop(k) for k in ('steps',) if k in averaged}
        checkpoint['ema_state_dict'] = steps | {
            f'module.{key}': value
            for key, value in names_of_today(model, averaged).items()
        }
    problems = phrases(mismatches(model.state_dict(), state))
    # Two styles of a network may have the same shapes.
    declared = meta_of(checkpoint).get('style')
    own = getattr(getattr(model, 'backbone', None), 'style', None)
    if None not in (declared, own) and declared != own:
        problems.append(
            f'it is of style {declared!r}, but the backbone of {own!r}; add '
            f'--cfg-options model.backbone.style={declared}'
        )
    if problems:
        if not state.keys() & model.state_dict().keys():
            problems.append(
                'no entry has a name that the model knows; tools/'
                'convert_checkpoint.py converts weights of other projects'
            )
        classes = checkpoint_classes(checkpoint)
        if classes:
            problems.append(
                f'the checkpoint knows {len(classes)} classes: '
                + shorten(classes)
            )
        configs = sorted(Path(filename).parent.glob('*.py'))
        if configs:
            problems.append(
                'the config of its run lies beside it: '
                + ', '.join(map(str, configs))
            )
        raise CheckpointError(
            f'{filename} does not fit the model of this config:\n  '
            + '\n  '.join(problems)
        )
    require_same_input(filename, declared_format(checkpoint, filename), model)
    return checkpoint


def names_of_today(
    model: nn.Module, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A checkpoint's weights by the names that the model has now."""
    state = {k.removeprefix('module.'): v for k, v in state.items()}
    for name, module in model.named_modules():
        if hasattr(module, 'rename_former_keys'):
            module.rename_former_keys(state, f'{name}.' if name else '')
    return state


def load_detector(
    cfg: Config, checkpoint: dict, source: str, device: str
) -> nn.Module:
    """Build a detector with the classes its checkpoint knows.

    The number of classes and the input format are changed in ``cfg``. The
    model is in evaluation mode, with ``cfg`` and ``dataset_meta`` as
    ``mmdet.apis.inference_detector`` wants them.

    Args:
        cfg: Its config.
        checkpoint: What its file holds.
        source: The file, for messages.
        device: Where it goes.
    """
    classes = checkpoint_classes(checkpoint)
    if classes:
        set_classes(cfg, classes)
    adopt(cfg, checkpoint, source)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    # The checkpoint brings the weights; pretrained ones would be read twice.
    cfg.model.backbone.pop('init_cfg', None)
    model = MODELS.build(cfg.model)
    checkpoint = fitting(model, checkpoint, source)
    model.load_state_dict(checkpoint['state_dict'])
    model.cfg = cfg
    model.dataset_meta = dict(classes=classes, palette='random')
    return model.to(device).eval()


def outlined(config: Mapping, scope: str = 'mmdet') -> nn.Module:
    """Build a model of a config without values, which costs no memory."""
    config = {k: v for k, v in config.items() if k != 'init_cfg'}
    with DefaultScope.overwrite_default_scope(scope), torch.device('meta'):
        return MODELS.build(config)


def use_backbone_weights(cfg: Config, filename: str) -> None:
    """Start the backbone of a config from a file.

    The config then has the ``style`` of the weights, and gives the backbone
    the images that they expect, where that is known. `CheckpointError` names
    what the backbone would not get.
    """
    content = CheckpointLoader.load_checkpoint(filename, 'cpu')
    own, scope = cfg.model.backbone, cfg.get('default_scope') or 'mmdet'
    base = {}
    if 'network' in cfg.model:
        base, scope = network(cfg.model.network).config, 'mmdet'
    backbone = outlined(base | own, scope)
    # Where neither the file nor its names tell, the config decides.
    fit = find_fit(backbone, content, filename, style=own.get('style'))
    style = getattr(backbone, 'style', None)
    if style and fit.style not in (None, style):
        own.style = fit.style
        print_log(
            f'Style of the backbone as in {filename}: {fit.style}', 'current'
        )
        backbone = outlined(base | own, scope)
        fit = find_fit(backbone, content, filename, style=fit.style)
    fit.check(backbone, filename)
    adopt_input_format(cfg, fit.expected_input, filename)
    init_cfg = dict(type='Pretrained', checkpoint=filename)
    if hasattr(backbone, 'formats'):
        if fit.style and not fit.found:
            init_cfg['style'] = fit.style
    # mmengine, which loads the others, takes 'module.' away itself.
    elif fit.prefix not in ('', 'module.'):
        init_cfg['prefix'] = fit.prefix
    own.init_cfg = init_cfg


def prepare_for(cfg: Config, filename: str) -> None:
    """Give the model the images that a detector's checkpoint expects."""
    checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
    adopt_input_format(cfg, declared_format(checkpoint, filename), filename)


def load_other_classes(
    model: nn.Module, cfg: Config, filename: str, classes: tuple[str, ...]
) -> None:
    """Load all that does not depend on the classes, and what they share.

    The model is that of the config, with ``classes`` in the order of their
    labels; the file a checkpoint of the same detector with others.
    """
    checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
    known = checkpoint_classes(checkpoint)
    if known is None:
        raise CheckpointError(
            f'--from {filename}: it does not say which classes it knows'
        )
    state = names_of_today(model, checkpoint.get('state_dict', checkpoint))
    target = model.state_dict()
    layers = _class_layers(cfg, target, len(classes))
    # As a network of this config with the checkpoint's classes would be.
    wanted = dict(target)
    for key, rows in layers.items():
        count = len(target[key]) + rows * (len(known) - len(classes))
        wanted[key] = torch.empty(count, *target[key].shape[1:], device='meta')
    problems = phrases(mismatches(wanted, state))
    if problems:
        raise CheckpointError(
            f'--from {filename} is of another network than this config, with '
            f'{len(known)} classes:\n  ' + '\n  '.join(problems)
        )
    for key, rows in layers.items():
        # One-stage heads have all classes of an anchor in a block, two-stage
        # ones all rows of a class.
        by_anchor = rows if key.startswith('bbox_head.') else 1
        new, old = (
            _transposed(each, by_anchor) for each in (target[key], state[key])
        )
        # The rows of each class, in the order of the labels; then those of
        # the background.
        new, old = new.clone(), old.to(new)
        for label, name in enumerate(classes):
            if name in known:
                other = known.index(name) * rows
                new[label * rows :][:rows] = old[other:][:rows]
        new[len(classes) * rows :] = old[len(known) * rows :]
        state[key] = _transposed(new, len(new) // by_anchor)
    model.load_state_dict({k: state[k] for k in target})
    shared = [name for name in classes if name in known]
    new = [name for name in classes if name not in known]
    print_log(
        f'Started from {filename}: {len(target) - len(layers)} tensors as '
        f'they are; of the {len(layers)} of the class layers, those of '
        + (f'{len(shared)} classes ({shorten(shared)})' if shared else 'none')
        + (f'; new: {shorten(new)}' if new else ''),
        'current',
    )


def _class_layers(cfg: Config, state: Mapping, count: int) -> dict[str, int]:
    """The entries of a model that grow with one class more than it has, and by
    how many rows.
    """
    config = copy.deepcopy(cfg.model)
    for node in dicts_of(config):
        if 'num_classes' in node:
            node['num_classes'] = count + 1
    grown = outlined(config, cfg.get('default_scope') or 'mmdet').state_dict()
    return {
        key: len(grown[key]) - len(value)
        for key, value in state.items()
        if grown[key].shape != value.shape
    }


def _transposed(layer: Tensor, blocks: int) -> Tensor:
    """Rows (blocks * n, ...) as (n * blocks, ...): the first of each first."""
    return layer.unflatten(0, (blocks, -1)).transpose(0, 1).flatten(0, 1)
