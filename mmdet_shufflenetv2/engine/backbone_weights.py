"""Pretrained weights for a config's backbone, checked before the run."""

import re
from collections.abc import Mapping

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from torch import nn

from ..backbones.base import StagedBackbone
from ..backbones.pretrained import COUNTER, expected_input
from ..backbones.zoo import network
from ..compat.weight_formats import family_of
from .checkpoint_meta import adopt_input_format
from .conversion import formats_of
from .runner import CheckpointMismatch, mismatches

# How a detector's checkpoint calls its backbone.
PREFIXES = ('backbone.', 'module.backbone.')


def use_backbone_weights(cfg: Config, filename: str) -> None:
    """Start the backbone of a config from a file.

    This package's backbones look at the file themselves when they load it,
    and the config then gives them the images that the weights expect. With
    others mmengine's loader would pass over what does not fit.

    Args:
        cfg: Changed in place.
        filename: Path of the checkpoint.

    Raises:
        CheckpointError: If it cannot be read or holds no weights.
        CheckpointMismatch: If a backbone from elsewhere would not get all
            of its weights; says which.
    """
    init_cfg = dict(type='Pretrained', checkpoint=filename)
    config = {k: v for k, v in cfg.model.backbone.items() if k != 'init_cfg'}
    scope = cfg.get('default_scope') or 'mmdet'
    if 'network' in cfg.model:
        config = {**network(cfg.model.network).config, **config}
        scope = 'mmdet'
    with (
        DefaultScope.overwrite_default_scope(scope),
        torch.device('meta'),
    ):
        backbone = MODELS.build(config)
    if isinstance(backbone, StagedBackbone):
        content = CheckpointLoader.load_checkpoint(filename, 'cpu')
        expected = expected_input(content, filename, formats_of(config))
        adopt_input_format(cfg, expected, filename)
    else:
        prefix = require_all_weights(backbone, filename)
        if prefix:
            init_cfg['prefix'] = prefix
    cfg.model.backbone.init_cfg = init_cfg


def require_all_weights(backbone: nn.Module, filename: str) -> str | None:
    """Check that mmengine's loader finds exactly a backbone's weights.

    Modules that the backbone does not have, such as a classifier, may be in
    the file, but a module of both must be the same in both.

    Args:
        backbone: Where they are to go.
        filename: Path of the checkpoint.

    Returns:
        What stands before the backbone's entries, if anything.

    Raises:
        CheckpointMismatch: If they do not fit; says which.
    """
    checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
    # mmengine looks into this wrapper and into no other.
    state = checkpoint if isinstance(checkpoint, Mapping) else {}
    state = state.get('state_dict', state)
    prefix = next(
        (p for p in PREFIXES if any(k.startswith(p) for k in state)), None
    )
    if prefix:
        state = {
            k.removeprefix(prefix): v
            for k, v in state.items()
            if k.startswith(prefix)
        }
    else:
        state = {re.sub(r'^module\.', '', k): v for k, v in state.items()}
    wanted = backbone.state_dict()
    modules = {key.partition('.')[0] for key in wanted}
    # Files that are older than the counter are whole without it.
    counters = {k: v for k, v in wanted.items() if k.endswith(COUNTER)}
    found = {k: v for k, v in state.items() if k.partition('.')[0] in modules}
    problems = mismatches(backbone, {**counters, **found})
    if problems:
        likeness = family_of(state)
        if likeness:
            problems.insert(0, f'it looks like {likeness}')
        raise CheckpointMismatch(
            f'{filename} does not fit the {type(backbone).__name__} of this '
            'config:\n  ' + '\n  '.join(problems)
        )
    return prefix
