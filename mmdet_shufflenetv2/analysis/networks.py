"""The network to be analysed, from what a user names it by.

That is a config of MMDetection, mmpretrain or another OpenMMLab package, a
published name of `mmdet_shufflenetv2.backbones.zoo`, or a backbone's name in
a registry.
"""

import logging
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ..backbones.base import StagedBackbone
from ..backbones.pretrained import load_pretrained
from ..backbones.zoo import NETWORKS, Classifier
from ..engine.checkpoint_meta import checkpoint_classes
from ..engine.run_config import (
    UsageError,
    dicts_of,
    load_config,
)
from ..engine.run_data import set_classes
from ..engine.runner import load_fitting
from .subject import Subject

# Where backbones are looked for, after this package's own.
SCOPES = ('mmdet', 'mmpretrain')
# What constructors raise about arguments they do not like.
_BUILD_ERRORS = (
    *(TypeError, ValueError, KeyError, AttributeError),
    *(AssertionError, ImportError, NotImplementedError),
)


def load_subject(
    target: str,
    backbone_options: Mapping | None = None,
    cfg_options: Mapping | None = None,
    checkpoint: str | None = None,
) -> Subject:
    """Build a network; its weights are random unless a checkpoint is given.

    Nothing is downloaded: pretrained weights that a config asks for are left
    out, since they change no time.

    Args:
        target: a config file, a published name or a backbone's name.
        backbone_options: arguments of a backbone.
        cfg_options: values that override a config's.
        checkpoint: file of trained weights.

    Raises:
        UsageError: nothing is found under that name, or it cannot be built.
    """
    is_config = target.endswith(('.py', '.yaml', '.yml', '.json'))
    if is_config and backbone_options:
        raise UsageError(
            '--backbone-options: allowed with the name of a backbone; for '
            'a config use --cfg-options model.backbone.KEY=VALUE'
        )
    if not is_config and cfg_options:
        raise UsageError(
            '--cfg-options: allowed with a config; for a backbone use '
            '--backbone-options KEY=VALUE'
        )
    # A network without checkpoint would list every parameter it sets.
    MMLogger.get_instance('analyze', log_level='WARNING')
    logging.getLogger('mmengine').setLevel(logging.WARNING)
    try:
        if is_config:
            subject = _from_config(target, cfg_options, checkpoint)
        elif target in NETWORKS:
            _refuse(backbone_options, target)
            subject = _published(target)
        else:
            subject = _from_registry(target, dict(backbone_options or {}))
    except UsageError:
        raise
    except _BUILD_ERRORS as error:
        raise UsageError(f'{target} cannot be built: {error}') from error
    subject.model.eval()
    if checkpoint:
        _load(subject.model, checkpoint)
    return subject


def _published(name: str) -> Subject:
    """The classification network, with every level to look at."""
    init_default_scope('mmdet')
    row = NETWORKS[name]
    config = dict(row.config, out_indices=tuple(range(row.last_level + 1)))
    side = row.input_size
    return Subject(name, Classifier(MODELS.build(config)), (side, side))


def _refuse(options: Mapping | None, target: str) -> None:
    if options:
        raise UsageError(
            f'--backbone-options: {target} is a published network and takes '
            f'none; name its type instead, '
            f'{NETWORKS[target].config["type"]}'
        )


def _load(model: nn.Module, checkpoint: str) -> None:
    if isinstance(model, StagedBackbone):
        try:
            load_pretrained(model, checkpoint)
        except ValueError as error:
            raise UsageError(str(error)) from error
    else:
        load_fitting(model, checkpoint)


def _from_config(
    path: str, options: Mapping | None, checkpoint: str | None
) -> Subject:
    cfg = load_config(path, options)
    if not isinstance(cfg.get('model'), dict):
        raise UsageError(f'{path} has no model to analyse')
    without_pretrained(cfg)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if checkpoint:
        classes = checkpoint_classes(
            CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
        )
        if classes:
            set_classes(cfg, classes)
    model = MODELS.build(cfg.model)
    if hasattr(model, 'init_weights'):
        model.init_weights()
    return Subject(path, model, test_size(cfg))


def test_size(cfg: Config) -> tuple[int, int]:
    """(H, W) of a config's test images, at its widest, padded to 32."""
    sizes = [
        node.get('crop_size') or node.get('scale')
        for node in dicts_of(cfg.get('test_dataloader'))
        if node.get('type') in ('Resize', 'CenterCrop', 'LetterResize')
    ]
    sizes = [size for size in sizes if size]
    if not sizes:
        return Subject.size
    last = sizes[-1]
    width, height = (last, last) if isinstance(last, int) else last
    return tuple(-(-side // 32) * 32 for side in (height, width))


def without_pretrained(cfg: Config) -> None:
    """Take out of a config's model whatever would be downloaded."""
    for node in dicts_of(cfg.model):
        node.pop('pretrained', None)
        inits = node.get('init_cfg')
        several = inits if isinstance(inits, list) else [inits]
        if any((i or {}).get('type') == 'Pretrained' for i in several):
            del node['init_cfg']


def _from_registry(name: str, options: dict) -> Subject:
    scope, _, bare = name.rpartition('.')
    known = _backbones()
    for candidate in [scope] if scope else SCOPES:
        if bare in known.get(candidate, {}):
            init_default_scope(candidate)
            config = dict(type=f'{candidate}.{bare}', **options)
            return Subject(name, MODELS.build(config))
    names = sorted({*NETWORKS, *(n for each in known.values() for n in each)})
    folded = {each.lower(): each for each in reversed(names)}
    near = get_close_matches(bare.lower(), folded, n=5, cutoff=0.5)
    choices = ', '.join(folded[each] for each in near) or (
        'give a config file, a backbone such as ShuffleNetV2, or one of '
        f'{", ".join(NETWORKS)}'
    )
    raise UsageError(f'no config and no backbone is called {name}: {choices}')


def _backbones() -> dict[str, dict[str, type]]:
    """{scope: {name: class}} of all backbones that are installed."""
    found = {}
    for scope in SCOPES:
        if find_spec(scope) is None:
            continue
        registry = import_module(f'{scope}.registry').MODELS
        import_module(f'{scope}.models')
        found[scope] = {
            name: cls
            for name, cls in registry.module_dict.items()
            if 'backbones' in cls.__module__
        }
    return found
