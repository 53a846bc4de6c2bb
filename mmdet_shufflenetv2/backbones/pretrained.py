"""Load pretrained weights whole or not at all, and say what was done."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..compat.checkpoints import CheckpointError
from ..compat.foreign_checkpoints import CheckpointFormat
from ..compat.input_format import InputFormat, declared_format, meta_of
from ..compat.lookalikes import family_of
from .likeness import network_like

if TYPE_CHECKING:
    from .base import StagedBackbone

# Where training frameworks keep the weights within a checkpoint.
WRAPPERS = ('state_dict', 'model', 'model_state_dict')
# Old checkpoints lack it, and it has no effect with a fixed momentum.
COUNTER = 'num_batches_tracked'
# What `load_pretrained` takes besides the backbone.
PRETRAINED_OPTIONS = ('checkpoint', 'prefix', 'map_location')
SHOWN = 6
# What DistributedDataParallel and `torch.compile` put before every name.
_WRAPPING = re.compile(r'((module|_orig_mod)\.)*')


def load_pretrained(
    backbone: StagedBackbone,
    checkpoint: str,
    prefix: str | None = None,
    map_location: str = 'cpu',
) -> None:
    """Load a checkpoint of any format that the backbone's family knows.

    Levels that the backbone did not build, and classifiers, are left out;
    everything else has to fit. What happened is logged. What the weights
    expect of images is kept as the backbone's ``expected_input``.

    Args:
        backbone: where to.
        checkpoint: path or address of the file.
        prefix: the backbone's name in a larger model, such as
            ``'backbone.'``, which is found without it being given.
        map_location: as ``torch.load`` takes it.

    Raises:
        CheckpointError: the file holds no weights, or weights of another
            network, width or style; the backbone is unchanged.
    """
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location)
    weights = weights_of(content, checkpoint)
    weights, outside = _inner(weights, prefix, checkpoint)
    found = _recognise(backbone, weights, checkpoint)
    fit = _fit(backbone, weights, found, declared_style(content))
    if fit.problems:
        raise CheckpointError(
            f'checkpoint {checkpoint!r} looks like '
            f'{_title(backbone, weights, found)}, but does not fit '
            f'{type(backbone).__name__}: ' + '; '.join(fit.problems)
        )
    backbone.load_state_dict(fit.loaded, strict=True)
    expected = declared_format(content, checkpoint) or found.input_format
    backbone.expected_input = expected
    report = [
        f'Loaded {len(fit.loaded)} tensors of {found.title} format from '
        f'{checkpoint}, none missing, none unexpected.'
    ]
    for what, keys in (
        ('Ignored', fit.ignored + outside),
        ('Belongs to levels not built here', fit.not_built),
    ):
        if keys:
            report.append(f'{what}: {_shown(keys)}.')
    unknown = 'as in the run which wrote it'
    report.append(f'Images it expects: {expected or unknown}.')
    print_log(' '.join(report), logger='current')


def init_configs(init_cfg: dict | list[dict]) -> list[dict]:
    """The parts of an ``init_cfg``, once they are known to be such.

    Raises:
        ValueError: it is neither a dict with a ``type`` nor some of these;
            or pretrained weights have no file, or an unknown option.
    """
    configs = [init_cfg] if isinstance(init_cfg, Mapping) else init_cfg
    if not isinstance(configs, list | tuple) or not all(
        isinstance(config, Mapping) and 'type' in config for config in configs
    ):
        raise ValueError(
            "init_cfg must be a dict with a 'type', or a list of such, got "
            f'{init_cfg!r}'
        )
    for config in filter(is_pretrained, configs):
        unknown = set(config) - {'type', *PRETRAINED_OPTIONS}
        if not isinstance(config.get('checkpoint'), str) or unknown:
            raise ValueError(
                "init_cfg of type 'Pretrained' must have a file's path or "
                "address as 'checkpoint', and nothing but "
                f'{", ".join(PRETRAINED_OPTIONS)}, got {config!r}'
            )
    return list(configs)


def is_pretrained(init_cfg: Mapping) -> bool:
    """Whether a part of an ``init_cfg`` is weights from a file."""
    return init_cfg['type'] in ('Pretrained', PretrainedInit)


@dataclass
class _Fit:
    """How a checkpoint and a backbone go together."""

    loaded: dict[str, Tensor] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    not_built: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def expected_input(
    content: object, source: str, formats: Iterable[CheckpointFormat]
) -> InputFormat | None:
    """What weights expect of images: their meta data's or their format's.

    Args:
        content: a loaded checkpoint.
        source: its path, for messages.
        formats: those of the backbone's family.
    """
    declared = declared_format(content, source)
    if declared:
        return declared
    weights = weights_of(content, source)
    found = (f.input_format for f in formats if f.recognises(weights))
    return next(found, None)


def declared_style(content: object) -> str | None:
    """The ``style`` of network that a checkpoint of ours is of."""
    return meta_of(content).get('style')


def weights_of(content: object, source: str) -> dict[str, Tensor]:
    """The weights in a checkpoint, without wrappers.

    Raises:
        CheckpointError: it holds none.
    """
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(
            content.get(wrapper), Mapping
        ):
            content = content[wrapper]
    weights = {}
    if isinstance(content, Mapping):
        weights = {
            key: value
            for key, value in content.items()
            if isinstance(key, str) and isinstance(value, Tensor)
        }
    if not weights:
        raise CheckpointError(
            f'checkpoint {source!r} must hold named tensors, alone or under '
            f'one of {", ".join(WRAPPERS)}; it holds none'
        )
    wrapper = min((_WRAPPING.match(key)[0] for key in weights), key=len)
    return {k.removeprefix(wrapper): v for k, v in weights.items()}


def _inner(
    weights: dict[str, Tensor], prefix: str | None, source: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The backbone's part of a model's weights, and the other keys."""
    if prefix is None:
        prefix = 'backbone.'
        if not any(key.startswith(prefix) for key in weights):
            return weights, []
    prefix = prefix.rstrip('.') + '.'
    inner = {
        key.removeprefix(prefix): value
        for key, value in weights.items()
        if key.startswith(prefix)
    }
    if not inner:
        heads = sorted({key.split('.')[0] + '.' for key in weights})
        raise CheckpointError(
            f'prefix must be that of a module in checkpoint {source!r}, '
            f'which has {_shown(heads)}; {_likeness(weights)}got {prefix!r}'
        )
    return inner, [key for key in weights if not key.startswith(prefix)]


def _recognise(
    backbone: StagedBackbone, weights: dict[str, Tensor], source: str
) -> CheckpointFormat:
    for candidate in backbone.checkpoint_formats:
        if candidate.recognises(weights):
            return candidate
    names = ', '.join(f.title for f in backbone.checkpoint_formats)
    raise CheckpointError(
        f'checkpoint {source!r} is in none of the formats that '
        f'{type(backbone).__name__} reads ({names}); '
        f'{_likeness(weights)}its keys are {_shown(weights)}'
    )


def _likeness(weights: Iterable[str]) -> str:
    """The family that names of weights are of, as a part of a message."""
    family = family_of(weights)
    return f'it looks like {family}; ' if family else ''


def _title(
    backbone: StagedBackbone,
    weights: dict[str, Tensor],
    found: CheckpointFormat,
) -> str:
    """Published network, if it is one, family and format of weights."""
    name = network_like(
        type(backbone),
        {
            found.to_ours(key): value.shape
            for key, value in weights.items()
            if not key.startswith(f'{found.classifier}.')
        },
        found.style,
    )
    title = family_of(weights) or found.title
    return f'{name}, {title}' if name else title


def _fit(
    backbone: StagedBackbone,
    weights: dict[str, Tensor],
    found: CheckpointFormat,
    declared: str | None,
) -> _Fit:
    """Sort a checkpoint's keys by what becomes of them."""
    fit = _Fit()
    expected = backbone.state_dict()
    not_built = set(backbone.level_names) - set(backbone.stage_names)
    unexpected, shapes = [], []
    for key, value in weights.items():
        name = found.to_ours(key)
        if key.startswith(f'{found.classifier}.'):
            fit.ignored.append(key)
        elif name in expected:
            fit.loaded[name] = value
            if value.shape != expected[name].shape:
                shapes.append(
                    f'{key} {tuple(value.shape)} instead of '
                    f'{tuple(expected[name].shape)}'
                )
        elif name and name.split('.')[0] in not_built:
            fit.not_built.append(key)
        else:
            unexpected.append(key)
    missing = []
    for name, value in expected.items():
        if name not in fit.loaded and name.endswith(COUNTER):
            fit.loaded[name] = value
        elif name not in fit.loaded:
            missing.append(name)
    style, wanted = getattr(backbone, 'style', None), declared or found.style
    if wanted not in (None, style):
        fit.problems.append(f'style must be {wanted!r}, got {style!r}')
    for what, keys in (
        ('missing', missing),
        ('unexpected', unexpected),
        ('of another shape', shapes),
    ):
        if keys:
            fit.problems.append(f'{what}: {_shown(keys)}')
    return fit


def _shown(keys: Iterable[str]) -> str:
    """A few of the keys, and how many more there are."""
    keys = list(keys)
    rest = f' and {len(keys) - SHOWN} more' if len(keys) > SHOWN else ''
    return ', '.join(keys[:SHOWN]) + rest
