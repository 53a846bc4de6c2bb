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

from ..backbones.base import StagedBackbone
from ..backbones.pretrained import (
    COUNTER,
    current_names,
    declared_style,
    find_fit,
    weights_of,
)
from ..backbones.zoo import network
from ..compat.input_format import declared_format, require_same_input
from ..compat.weight_formats import family_of, prefixes_of, within, wrapping_of
from ..data.table import shorten
from ..errors import UserError
from .run_config import (
    adopt,
    adopt_input_format,
    checkpoint_classes,
    dicts_of,
)
from .run_data import set_classes


class CheckpointMismatch(UserError):
    """A checkpoint that does not hold exactly the model's parameters."""


def load_fitting(model: nn.Module, filename: str) -> None:
    """Load a checkpoint that is as :func:`fitting` wants it."""
    checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
    checkpoint = fitting(model, checkpoint, filename)
    model.load_state_dict(checkpoint['state_dict'])


def fitting(model: nn.Module, checkpoint: dict, filename: str) -> dict:
    """A checkpoint that holds exactly the model's entries, by their names of
    today.

    `CheckpointMismatch` names what does not fit; `CheckpointError` says that
    it expects other images than the model gives.
    """
    if 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint)
    checkpoint.setdefault('meta', {})

    def renamed(state: dict) -> dict:
        bare = {key.removeprefix('module.'): v for key, v in state.items()}
        return current_names(model, bare)

    state = checkpoint['state_dict'] = renamed(checkpoint['state_dict'])
    averaged = checkpoint.get('ema_state_dict')
    if averaged:
        steps = {k: averaged.pop(k) for k in ('steps',) if k in averaged}
        checkpoint['ema_state_dict'] = steps | {
            f'module.{k}': v for k, v in renamed(averaged).items()
        }
    problems = mismatches(model.state_dict(), state)
    # Two styles of a network may have the same shapes.
    declared = declared_style(checkpoint)
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
        raise CheckpointMismatch(
            f'{filename} does not fit the model of this config:\n  '
            + '\n  '.join(problems)
        )
    require_same_input(filename, declared_format(checkpoint, filename), model)
    return checkpoint


def mismatches(wanted: Mapping, state: Mapping, most: int = 5) -> list[str]:
    """Where a state dict differs from the wanted one: a phrase a kind."""
    kinds = {
        'missing in the checkpoint': [k for k in wanted if k not in state],
        'unknown to the model': [k for k in state if k not in wanted],
        'of another shape': [
            f'{k} (checkpoint {tuple(state[k].shape)}, '
            f'model {tuple(wanted[k].shape)})'
            for k in wanted
            if k in state and state[k].shape != wanted[k].shape
        ],
    }
    return [
        f'{len(keys)} {kind}: '
        + ', '.join(keys[:most])
        + (', ...' if len(keys) > most else '')
        for kind, keys in kinds.items()
        if keys
    ]


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

    The config then has the ``style`` of the weights, where the backbone is of
    this package, and gives it the images that they expect, where that is
    known. `CheckpointMismatch` names what the backbone would not get.
    """
    content = CheckpointLoader.load_checkpoint(filename, 'cpu')
    init_cfg = dict(type='Pretrained', checkpoint=filename)
    backbone, fit = _fitted(cfg, content, filename)
    if fit and fit.style not in (None, backbone.style):
        cfg.model.backbone.style = fit.style
        print_log(
            f'Style of the backbone as in {filename}: {fit.style}', 'current'
        )
        backbone, fit = _fitted(cfg, content, filename)
    if fit:
        if fit.problems:
            raise CheckpointMismatch(
                f'{filename} looks like {fit.title(backbone)}, but does not '
                f'fit the {type(backbone).__name__} of this config: '
                + '; '.join(fit.problems)
            )
        if fit.style and not fit.found:
            init_cfg['style'] = fit.style
        expected = declared_format(content, filename) or fit.input_format
        adopt_input_format(cfg, expected, filename)
    else:
        prefix = _prefix_of_all(backbone, content, filename)
        # mmengine takes 'module.' away itself.
        if prefix not in ('', 'module.'):
            init_cfg['prefix'] = prefix
    cfg.model.backbone.init_cfg = init_cfg


def _fitted(cfg: Config, content: object, source: str):
    """A config's backbone and, if it is of this package, how weights fit."""
    config, scope = cfg.model.backbone, cfg.get('default_scope') or 'mmdet'
    if 'network' in cfg.model:
        config, scope = network(cfg.model.network).config | config, 'mmdet'
    backbone = outlined(config, scope)
    if not isinstance(backbone, StagedBackbone):
        return backbone, None
    # Where neither the file nor its names tell, the config decides.
    style = declared_style(content) or cfg.model.backbone.get('style')
    weights = weights_of(content, source)
    return backbone, find_fit(backbone, weights, source, style=style)


def _prefix_of_all(backbone: nn.Module, content: Mapping, source: str) -> str:
    """Find where in a file mmengine's loader finds a backbone's weights.

    mmengine passes over what does not fit. Modules that the backbone does not
    have, such as a classifier, may be in the file, but a module of both must
    be the same in both.
    """
    # mmengine looks into this wrapper and into no other.
    state = content.get('state_dict', content)
    wanted = backbone.state_dict()
    modules = {key.partition('.')[0] for key in wanted}
    # Files that are older than the counter are whole without it.
    counters = {k: v for k, v in wanted.items() if k.endswith(COUNTER)}
    inner = {prefix: within(state, prefix) for prefix in prefixes_of(state)}
    hits = {p: len(wanted.keys() & each) for p, each in inner.items()}
    best = [prefix for prefix in hits if hits[prefix] == max(hits.values())]
    found = inner[best[0]]
    found = {k: v for k, v in found.items() if k.partition('.')[0] in modules}
    problems = mismatches(wanted, counters | found)
    if not problems and len(best) > 1:
        problems = [f'it has several backbones: {", ".join(best)}']
    if not problems:
        return best[0]
    family = family_of(within(state, wrapping_of(state))) or 'none known'
    raise CheckpointMismatch(
        f'{source} does not fit the {type(backbone).__name__} of this '
        f'config; it looks like {family}:\n  ' + '\n  '.join(problems)
    )


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
        raise CheckpointMismatch(
            f'--from {filename}: it does not say which classes it knows'
        )
    state = {
        key.removeprefix('module.'): value
        for key, value in checkpoint.get('state_dict', checkpoint).items()
    }
    target = model.state_dict()
    layers = _class_layers(cfg, target, len(classes))
    # As a network of this config with the checkpoint's classes would be.
    wanted = dict(target)
    for key, rows in layers.items():
        count = len(target[key]) + rows * (len(known) - len(classes))
        wanted[key] = torch.empty(count, *target[key].shape[1:], device='meta')
    problems = mismatches(wanted, state)
    if problems:
        raise CheckpointMismatch(
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
