"""Pretrained weights: which are public, and how a file's fit a backbone.

A config names weights by ``init_cfg=dict(type='Pretrained', checkpoint=URL)``;
mmengine downloads them once, into the cache of torch hub.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, groupby, permutations, product

import torch
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_torchvision_models
from torch import Tensor, nn

from ..compat.checkpoints import CheckpointError
from ..compat.input_format import InputFormat, declared_format, meta_of
from ..compat.weight_formats import (
    USUAL_PREFIXES,
    WeightFormat,
    family_of,
    prefixes_of,
    within,
    wrapping_of,
)
from ..errors import UserError
from .zoo import network_like, network_of

# Published name of a network -> address. V2* has V2's: its extra convolutions
# then pass their input on. ShuffleNet V1's are of style 'mmpretrain'.
PUBLIC_WEIGHTS = {
    f'shufflenet_v2_{star}{w}': f'torchvision://shufflenet_v2_{w}.imagenet1k_v1'
    for star in ('', 'star_')
    for w in ('x0_5', 'x1_0', 'x1_5', 'x2_0')
} | {
    'mobilenet_v2_x1_0': 'torchvision://mobilenet_v2',
    'shufflenet_v1_x1_0_g3': (
        'https://download.openmmlab.com/mmclassification/v0/shufflenet_v1/'
        'shufflenet_v1_batch1024_imagenet_20200804-5d6cec73.pth'
    ),
}
RESNETS = {50: 'torchvision://resnet50', 101: 'torchvision://resnet101'}
# Where training frameworks keep the weights within a checkpoint.
WRAPPERS = ('state_dict', 'model', 'model_state_dict')
# Old checkpoints lack it, and it has no effect with a fixed momentum.
COUNTER = 'num_batches_tracked'
# Who calls a branch of a ShuffleNet V2's unit so.
STYLE_WORDS = {'branch_main': 'authors', 'branch2': 'torchvision'}


def public_weights(backbone: Mapping) -> str | None:
    """The address of weights for a config's backbone, if there are any."""
    if backbone.get('type') == 'ResNet':
        return RESNETS.get(backbone.get('depth'))
    # Strides, dilations and the like change where it computes, not what.
    others = ('strides', 'dilations', 'norm_cfg')
    config = {k: v for k, v in backbone.items() if k not in others}
    return PUBLIC_WEIGHTS.get(network_of(config))


def fetch_weights(checkpoint: str) -> None:
    """Download weights if they are not here; or name three ways to go on."""
    try:
        CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    except (OSError, KeyError) as error:
        reason = getattr(error, 'reason', None) or error
        url = checkpoint
        if url.startswith('torchvision://'):
            name = url.removeprefix('torchvision://')
            url = get_torchvision_models().get(name, '')
        cache = ''
        if url.startswith('http'):
            path = f'{torch.hub.get_dir()}/checkpoints/{os.path.basename(url)}'
            cache = f'  put a copy of {url}\n    at {path}\n'
        raise UserError(
            f'the starting weights {checkpoint} cannot be had: {reason}\n'
            f'One of these goes on:\n{cache}'
            '  --backbone-weights FILE   start from weights you have\n'
            '  --from-scratch            start from random weights, which '
            'gives other results'
        ) from error


def load_pretrained(
    backbone: nn.Module,
    checkpoint: str,
    prefix: str | None = None,
    map_location: str = 'cpu',
    style: str | None = None,
) -> None:
    """Load a checkpoint in any naming, if it is of the backbone's network.

    Names are looked up in `compat.weight_formats`; others load where tensors
    fit one to one in their order. Levels not built, and classifiers, are left
    out; everything else has to fit. What happened is logged; what the weights
    expect of images becomes the backbone's ``expected_input``.

    Args:
        backbone: a `StagedBackbone`.
        checkpoint: path or address of the file.
        prefix: the backbone's name in a larger model, where it is not found.
        map_location: as of ``torch.load``.
        style: of the weights' network, where neither names nor shapes tell.

    Raises:
        CheckpointError: the file holds no weights, or weights of another
            network, width or style; the backbone is unchanged.
    """
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location)
    weights = weights_of(content, checkpoint)
    style = declared_style(content) or style
    fit = find_fit(backbone, weights, checkpoint, prefix, style)
    what = fit.title(backbone)
    if fit.problems:
        raise CheckpointError(
            f'checkpoint {checkpoint!r} looks like {what}, but does not fit '
            f'{type(backbone).__name__}: ' + '; '.join(fit.problems)
        )
    own = backbone.state_dict()
    counters = {k: v for k, v in own.items() if k.endswith(COUNTER)}
    backbone.load_state_dict({**counters, **fit.loaded}, strict=True)
    expected = declared_format(content, checkpoint) or fit.input_format
    backbone.expected_input = expected
    report = [
        f'Loaded {len(fit.loaded) - len(fit.new)} tensors from {checkpoint} '
        f'({what}), none missing, none unexpected.',
        *_told('Ignored', fit.ignored, '.'),
        *_told('Belongs to levels not built here', fit.not_built, '.'),
        *_told(
            'New layers, which pass their input on unchanged', fit.new, '.'
        ),
        f'Images it expects: {expected or "not stated"}.',
    ]
    print_log(' '.join(report), logger='current')


@dataclass
class Fit:
    """How a checkpoint and a backbone go together.

    Attributes:
        found: the format of the names; None if it is not known.
        style: of the network that the weights are of; None if any would do.
        loaded, new: what the backbone gets, and what of it is not from the
            checkpoint, by its own names.
        ignored, not_built: keys of classifiers, and of levels not built.
        problems: what does not fit, as parts of a sentence.
        shapes: of the checkpoint's tensors, by our names.
    """

    found: WeightFormat | None
    style: str | None
    loaded: dict[str, Tensor] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    not_built: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    shapes: dict[str | None, tuple[int, ...]] = field(default_factory=dict)

    @property
    def input_format(self) -> InputFormat | None:
        return self.found.input_format if self.found else None

    def title(self, backbone: nn.Module) -> str:
        """Published network, if it is one, family and format."""
        name = network_like(type(backbone), self.shapes, self.style)
        names = (
            f'the format of {self.found}' if self.found else 'unknown names'
        )
        title = f'{backbone.family} in {names}'
        return f'{name}, {title}' if name else title


def find_fit(
    backbone: nn.Module,
    weights: Mapping[str, Tensor],
    source: str,
    prefix: str | None = None,
    style: str | None = None,
) -> Fit:
    """Find out how `weights_of` a checkpoint go into a backbone.

    Nothing is loaded, so the backbone may be on the meta device. Raises
    where there is no such prefix or more than one, or another family.
    """
    prefixes = prefixes_of(weights)
    if prefix is not None:
        prefixes = [prefix.rstrip('.') + '.']
    inner = {p: within(weights, p) for p in prefixes}
    hits = {}
    for each, found in product(prefixes, backbone.formats):
        if found.recognises(inner[each]):
            fit = _fit(backbone, inner[each], found, style)
            best = hits.setdefault(each, fit)
            if len(fit.problems) < len(best.problems):
                hits[each] = fit
    # The usual ones are the first.
    if len(hits) > 1 and next(iter(hits)) not in USUAL_PREFIXES:
        raise CheckpointError(
            f'checkpoint {source!r} has several backbones; prefix must be '
            f'one of {", ".join(hits)}'
        )
    if hits:
        at, fit = next(iter(hits.items()))
    else:
        nested = [p for p in USUAL_PREFIXES[1:] if inner.get(p)]
        at = (nested or prefixes)[0]
        family = family_of(weights)
        try:
            if family:
                raise CheckpointError(f'it looks like {family}')
            fit = _fit_in_order(backbone, inner[at], style)
        except CheckpointError as error:
            names = ', '.join(map(str, backbone.formats))
            raise CheckpointError(
                f'checkpoint {source!r} is, under prefix {at!r}, in none of '
                f'the formats that {type(backbone).__name__} reads ({names}); '
                f'{error}; its keys are {_shown(weights)}'
            ) from None
    own = getattr(backbone, 'style', None)
    if fit.style not in (None, own):
        fit.problems.append(f'style must be {fit.style!r}, got {own!r}')
    fit.ignored += [key for key in weights if not key.startswith(at)]
    return fit


def _fit(
    backbone: nn.Module,
    weights: dict[str, Tensor],
    found: WeightFormat,
    style: str | None,
) -> Fit:
    """Sort a checkpoint's keys by what becomes of them."""
    fit = Fit(found, found.style or style)
    expected = backbone.state_dict()
    not_built = set(backbone.level_names) - set(backbone.stage_names)
    unexpected, shapes = [], []
    for key, value in weights.items():
        if found.is_classifier(key):
            fit.ignored.append(key)
            continue
        name = found.to_ours(key)
        shape = fit.shapes[name] = tuple(value.shape)
        if name in expected:
            fit.loaded[name] = value
            wanted = tuple(expected[name].shape)
            if shape != wanted:
                shapes.append(f'{key} {shape} instead of {wanted}')
        elif name and name.split('.')[0] in not_built:
            fit.not_built.append(key)
        else:
            unexpected.append(key)
    new = backbone.neutral_weights()
    if not new.keys() & fit.loaded.keys():
        fit.new = list(new)
        fit.loaded.update(new)
    missing = (k for k in expected if not k.endswith(COUNTER))
    fit.problems += [
        *_told('missing', [k for k in missing if k not in fit.loaded]),
        *_told('unexpected', unexpected),
        *_told('of another shape', shapes),
    ]
    return fit


def _fit_in_order(
    backbone: nn.Module, weights: dict[str, Tensor], style: str | None
) -> Fit:
    """Match tensors of unknown names by their order and shapes.

    The branches of a unit may come in another order. What is left is not
    built, or a classifier. An error is a part of a sentence.
    """
    words = {word for key in weights for word in key.split('.')}
    told = {s for word, s in STYLE_WORDS.items() if word in words}
    fit = Fit(None, told.pop() if len(told) == 1 else style)
    given, wanted = (
        [(k, v) for k, v in entries.items() if not k.endswith(COUNTER)]
        for entries in (weights, backbone.state_dict())
    )
    for unit, entries in groupby(wanted, _unit_of):
        entries = list(entries)
        here, given = given[: len(entries)], given[len(entries) :]
        branches = [list(each) for _, each in groupby(entries, _branch_of)]
        orders = [list(chain(*each)) for each in permutations(branches)]
        kinds = [_kind(entry) for entry in here]
        orders = [o for o in orders if [_kind(e) for e in o] == kinds]
        if len(orders) != 1:
            first = ''.join(f'{k} {tuple(v.shape)}' for k, v in here[:1])
            raise CheckpointError(
                f'in their order, its tensors from {first} on do not fit '
                f'{unit}' + (' in one way only' if orders else '')
            )
        for (name, _), (_, value) in zip(orders[0], here, strict=True):
            fit.loaded[name] = value
            fit.shapes[name] = tuple(value.shape)
    fit.ignored = [key for key, _ in given]
    styles = backbone.styles_of_these_shapes
    if fit.style is None and len(styles) > 1:
        raise CheckpointError(
            'its tensors fit one to one, but neither names nor shapes tell '
            'whose order of channels they have: set style of the backbone '
            f'and of its init_cfg to one of {", ".join(styles)}'
        )
    return fit


def _unit_of(entry: tuple[str, Tensor]) -> str:
    """The unit that a weight is of: ``stage2.0`` or ``conv1``."""
    parts = entry[0].split('.')
    return '.'.join(parts[: 2 if len(parts) > 3 else 1])


def _branch_of(entry: tuple[str, Tensor]) -> str:
    parts = entry[0].split('.')
    return next((p for p in parts if p.startswith('branch')), '')


def _kind(entry: tuple[str, Tensor]) -> tuple[str, tuple[int, ...]]:
    """What has to agree: weight or bias, mean or variance; and the shape."""
    return entry[0].rpartition('.')[2], tuple(entry[1].shape)


def current_names(
    model: nn.Module, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """This package's weights by the names a model's backbones have now."""
    state = dict(state)
    for name, module in model.named_modules():
        if hasattr(module, 'rename_former_keys'):
            module.rename_former_keys(state, f'{name}.' if name else '')
    return state


def declared_style(content: object) -> str | None:
    """The ``style`` of network that a checkpoint of ours is of."""
    return meta_of(content).get('style')


def weights_of(content: object, source: str) -> dict[str, Tensor]:
    """The weights in a checkpoint, without wrappers."""
    if not isinstance(content, Mapping):
        content = {}
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
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
    wrapper = wrapping_of(weights)
    return {k.removeprefix(wrapper): v for k, v in weights.items()}


def _told(what: str, keys: Iterable[str], end: str = '') -> list[str]:
    """A part of a sentence on keys, if there are any."""
    return [f'{what}: {_shown(keys)}{end}'] if keys else []


def _shown(keys: Iterable[str], most: int = 6) -> str:
    keys = list(keys)
    rest = f' and {len(keys) - most} more' if len(keys) > most else ''
    return ', '.join(keys[:most]) + rest
