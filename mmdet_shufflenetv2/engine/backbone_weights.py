"""Pretrained weights for a config's backbone, checked before the run."""

from collections.abc import Mapping

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..backbones.base import StagedBackbone
from ..backbones.pretrained import (
    COUNTER,
    Fit,
    declared_style,
    find_fit,
    weights_of,
)
from ..backbones.zoo import network
from ..compat.input_format import declared_format
from ..compat.weight_formats import family_of, within, wrapping_of
from .checkpoint_meta import adopt_input_format
from .runner import CheckpointMismatch, mismatches


def use_backbone_weights(cfg: Config, filename: str) -> None:
    """Start the backbone of a config from a file.

    The config then has the ``style`` of the weights, where the backbone is of
    this package, and gives it the images that they expect, where that is
    known.

    Args:
        cfg: changed in place.
        filename: path of the checkpoint.

    Raises:
        CheckpointError: it cannot be read or does not hold weights.
        CheckpointMismatch: the backbone would not get all of its weights;
            says which.
    """
    content = CheckpointLoader.load_checkpoint(filename, 'cpu')
    init_cfg = dict(type='Pretrained', checkpoint=filename)
    backbone = _outlined(cfg)
    if isinstance(backbone, StagedBackbone):
        fit = _fit(backbone, content, filename, cfg)
        if fit.style not in (None, backbone.style):
            cfg.model.backbone.style = fit.style
            print_log(
                f'Style of the backbone as in {filename}: {fit.style}',
                'current',
            )
            backbone = _outlined(cfg)
            fit = _fit(backbone, content, filename, cfg)
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
        prefix = require_all_weights(backbone, content, filename)
        if prefix:
            init_cfg['prefix'] = prefix
    cfg.model.backbone.init_cfg = init_cfg


def _outlined(cfg: Config) -> nn.Module:
    """The backbone of a config, without values."""
    config = {k: v for k, v in cfg.model.backbone.items() if k != 'init_cfg'}
    scope = cfg.get('default_scope') or 'mmdet'
    if 'network' in cfg.model:
        config = {**network(cfg.model.network).config, **config}
        scope = 'mmdet'
    with (
        DefaultScope.overwrite_default_scope(scope),
        torch.device('meta'),
    ):
        return MODELS.build(config)


def _fit(
    backbone: StagedBackbone, content: object, source: str, cfg: Config
) -> Fit:
    weights = weights_of(content, source)
    # Where neither the file nor its names tell, the config decides.
    style = declared_style(content) or cfg.model.backbone.get('style')
    return find_fit(backbone, weights, source, style=style)


def require_all_weights(
    backbone: nn.Module, content: object, source: str
) -> str | None:
    """Check that mmengine's loader finds exactly a backbone's weights.

    mmengine passes over what does not fit. Modules that the backbone does not
    have, such as a classifier, may be in the file, but a module of both must
    be the same in both.

    Args:
        backbone: where they are to go.
        content: a loaded checkpoint.
        source: its path, for messages.

    Returns:
        What stands before the backbone's entries, if anything.

    Raises:
        CheckpointMismatch: they do not fit; says which.
    """
    # mmengine looks into this wrapper and into no other.
    state = content if isinstance(content, Mapping) else {}
    state = state.get('state_dict', state)
    wanted = backbone.state_dict()
    first = next(iter(wanted))
    wrapping = wrapping_of(state)
    prefixes = {
        key.removesuffix(first)
        for key in state
        if key == first or key.endswith(f'.{first}')
    } or {wrapping}
    problems = {p: _problems(backbone, within(state, p)) for p in prefixes}
    fitting = [prefix for prefix, found in problems.items() if not found]
    if len(fitting) > 1:
        raise CheckpointMismatch(
            f'{source} has several backbones, under {", ".join(fitting)}; '
            'name one by model.backbone.init_cfg.prefix in the config'
        )
    if not fitting:
        likeness = family_of(within(state, wrapping))
        found = min(problems.values(), key=len)
        if likeness:
            found.insert(0, f'it looks like {likeness}')
        raise CheckpointMismatch(
            f'{source} does not fit the {type(backbone).__name__} of this '
            'config:\n  ' + '\n  '.join(found)
        )
    # mmengine takes 'module.' away itself.
    return None if fitting[0] == 'module.' else fitting[0] or None


def _problems(backbone: nn.Module, state: dict[str, Tensor]) -> list[str]:
    wanted = backbone.state_dict()
    modules = {key.partition('.')[0] for key in wanted}
    # Files that are older than the counter are whole without it.
    counters = {k: v for k, v in wanted.items() if k.endswith(COUNTER)}
    found = {k: v for k, v in state.items() if k.partition('.')[0] in modules}
    return mismatches(backbone, {**counters, **found})
