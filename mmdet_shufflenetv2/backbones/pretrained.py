"""Load pretrained weights whole or not at all, and say what was done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, groupby, permutations
from typing import TYPE_CHECKING

from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.runner import CheckpointLoader
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
from .zoo import network_like

if TYPE_CHECKING:
    from .base import StagedBackbone

# Where training frameworks keep the weights within a checkpoint.
WRAPPERS = ('state_dict', 'model', 'model_state_dict')
# Old checkpoints lack it, and it has no effect with a fixed momentum.
COUNTER = 'num_batches_tracked'
# What `load_pretrained` takes besides the backbone.
PRETRAINED_OPTIONS = ('checkpoint', 'prefix', 'map_location', 'style')
# Who calls the branches of a ShuffleNet V2's unit so.
STYLE_WORDS = {
    'authors': {'branch_main', 'branch_proj'},
    'torchvision': {'branch1', 'branch2'},
}
SHOWN = 6
# A weight and its name.
Entry = tuple[str, Tensor]


class UnknownStyle(CheckpointError):
    """Weights fit, but whose order of channels they have is not known."""


def load_pretrained(
    backbone: StagedBackbone,
    checkpoint: str,
    prefix: str | None = None,
    map_location: str = 'cpu',
    style: str | None = None,
) -> None:
    """Load a checkpoint in any naming, if it is of the backbone's network.

    Names are looked up in `compat.weight_formats`. Names that are not there
    load too, where the tensors fit those of the backbone one to one in their
    order. Levels that the backbone did not build, and classifiers, are left
    out; everything else has to fit. What happened is logged. What the weights
    expect of images is kept as the backbone's ``expected_input``.

    Args:
        backbone: where to.
        checkpoint: path or address of the file.
        prefix: the backbone's name in a larger model, such as
            ``'backbone.'``, which is found without it being given.
        map_location: as ``torch.load`` takes it.
        style: of the network that the weights are of, where neither names
            nor shapes tell.

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
    counters = {
        k: v for k, v in backbone.state_dict().items() if k.endswith(COUNTER)
    }
    backbone.load_state_dict({**counters, **fit.loaded}, strict=True)
    backbone.expected_input = (
        declared_format(content, checkpoint) or fit.input_format
    )
    report = [
        f'Loaded {len(fit.loaded) - len(fit.new)} tensors from {checkpoint} '
        f'({what}), none missing, none unexpected.'
    ]
    for text, keys in (
        ('Ignored', fit.ignored),
        ('Belongs to levels not built here', fit.not_built),
        ('New layers, which pass their input on unchanged', fit.new),
    ):
        if keys:
            report.append(f'{text}: {shown(keys)}.')
    expected = backbone.expected_input or 'not stated'
    report.append(f'Images it expects: {expected}.')
    print_log(' '.join(report), logger='current')


@dataclass
class Fit:
    """How a checkpoint and a backbone go together.

    Attributes:
        found: the format of the names; None if it is not known.
        loaded: what the backbone gets, by its own names.
        new: names of it that are not from the checkpoint.
        ignored: keys of a classifier or of other parts of a model.
        not_built: keys of levels that the backbone did not build.
        problems: what does not fit, as parts of a sentence.
        style: of the network that the weights are of; None if any would do.
        shapes: of the checkpoint's tensors, by our names.
    """

    found: WeightFormat | None
    loaded: dict[str, Tensor] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    not_built: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    style: str | None = None
    shapes: dict[str | None, tuple[int, ...]] = field(default_factory=dict)

    @property
    def input_format(self) -> InputFormat | None:
        """What the weights expect of images, as far as names tell."""
        return self.found.input_format if self.found else None

    def title(self, backbone: StagedBackbone) -> str:
        """Published network, if it is one, family and format."""
        name = network_like(type(backbone), self.shapes, self.style)
        title = f'{backbone.family} in unknown names'
        if self.found:
            title = f'{backbone.family} in the format of {self.found}'
        return f'{name}, {title}' if name else title


def find_fit(
    backbone: StagedBackbone,
    weights: Mapping[str, Tensor],
    source: str,
    prefix: str | None = None,
    style: str | None = None,
) -> Fit:
    """Find out how weights go into a backbone; nothing is loaded.

    Args:
        backbone: may be on the meta device.
        weights: of a checkpoint, as `weights_of` gives them.
        source: of the weights, for messages.
        prefix, style: as for `load_pretrained`.

    Raises:
        CheckpointError: there is no such prefix, or more than one, or the
            weights are of another family.
    """
    if prefix is not None:
        prefixes = [_checked_prefix(weights, prefix, source)]
    else:
        prefixes = prefixes_of(weights)
    hits = {}
    for each in prefixes:
        inner = within(weights, each)
        known = [f for f in backbone.formats if f.recognises(inner)]
        if known:
            fits = [_fit(backbone, inner, found, style) for found in known]
            hits[each] = min(fits, key=lambda fit: len(fit.problems))
    # The usual ones are the first.
    if len(hits) > 1 and next(iter(hits)) not in USUAL_PREFIXES:
        raise CheckpointError(
            f'checkpoint {source!r} has several backbones; prefix must be '
            f'one of {", ".join(hits)}'
        )
    if hits:
        at, fit = next(iter(hits.items()))
    else:
        nested = [p for p in USUAL_PREFIXES[1:] if within(weights, p)]
        at = (nested or prefixes)[0] if prefix is None else prefixes[0]
        inner = within(weights, at)
        try:
            fit = _fit_in_order(backbone, inner, style)
        except CheckpointError as error:
            names = ', '.join(map(str, backbone.formats))
            raise type(error)(
                f'checkpoint {source!r} is in none of the formats that '
                f'{type(backbone).__name__} reads ({names}); '
                f'{_likeness(weights)}its keys are {shown(weights)}; {error}'
            ) from None
    fit.ignored += [key for key in weights if not key.startswith(at)]
    return fit


def _fit(
    backbone: StagedBackbone,
    weights: dict[str, Tensor],
    found: WeightFormat,
    style: str | None,
) -> Fit:
    """Sort a checkpoint's keys by what becomes of them."""
    fit = Fit(found, style=style or found.style)
    expected = backbone.state_dict()
    not_built = set(backbone.level_names) - set(backbone.stage_names)
    unexpected, shapes = [], []
    for key, value in weights.items():
        if found.is_classifier(key):
            fit.ignored.append(key)
            continue
        name = found.to_ours(key)
        fit.shapes[name] = tuple(value.shape)
        if name in expected:
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
    missing = [name for name in expected if name not in fit.loaded]
    new = backbone.weights_for_new_layers(missing)
    fit.new = list(new)
    fit.loaded.update(new)
    missing = [
        name
        for name in missing
        if name not in new and not name.endswith(COUNTER)
    ]
    _check_style(fit, backbone)
    for what, keys in (
        ('missing', missing),
        ('unexpected', unexpected),
        ('of another shape', shapes),
    ):
        if keys:
            fit.problems.append(f'{what}: {shown(keys)}')
    return fit


def _check_style(fit: Fit, backbone: StagedBackbone) -> None:
    own = getattr(backbone, 'style', None)
    if fit.style not in (None, own):
        fit.problems.append(f'style must be {fit.style!r}, got {own!r}')


def _fit_in_order(
    backbone: StagedBackbone, weights: dict[str, Tensor], style: str | None
) -> Fit:
    """Match tensors of unknown names by their order and shapes.

    The branches of a unit may come in another order. What is left in the
    file are levels that are not built, or a classifier.

    Raises:
        CheckpointError: a tensor does not fit, or it cannot be known which
            one is which; says so as a part of a sentence.
    """
    if family_of(weights):
        raise CheckpointError('order is tried for unknown names only')
    fit = Fit(None, style=style)
    given, wanted = (
        [(k, v) for k, v in entries.items() if not k.endswith(COUNTER)]
        for entries in (weights, backbone.state_dict())
    )
    for unit, entries in groupby(wanted, lambda entry: _unit_of(entry[0])):
        entries = list(entries)
        here, given = given[: len(entries)], given[len(entries) :]
        orders = [
            order
            for order in _orders(entries)
            if list(map(_kind, order)) == list(map(_kind, here))
        ]
        if not here:
            raise CheckpointError(f'no tensors are left for {unit}')
        if not orders:
            key, value = here[0]
            raise CheckpointError(
                f'in their order, its tensors from {key} '
                f'{tuple(value.shape)} on do not fit {unit}'
            )
        if len(orders) > 1:
            raise CheckpointError(
                'its tensors fit in more than one order, so it is not known '
                f'which ones are those of {unit}'
            )
        for (name, _), (_, value) in zip(orders[0], here, strict=True):
            fit.loaded[name] = value
            fit.shapes[name] = tuple(value.shape)
    fit.ignored = [key for key, _ in given]
    styles = backbone.styles_of_these_shapes
    if style is None and len(styles) > 1:
        fit.style = _style_by_words(weights)
    if fit.style is None and len(styles) > 1:
        raise UnknownStyle(
            'its tensors fit one to one, but neither names nor shapes tell '
            'whose order of channels they have: set style of the backbone '
            f'and of its init_cfg to one of {", ".join(styles)}'
        )
    _check_style(fit, backbone)
    return fit


def _style_by_words(keys: Iterable[str]) -> str | None:
    words = {word for key in keys for word in key.split('.')}
    told = [style for style, own in STYLE_WORDS.items() if words & own]
    return told[0] if len(told) == 1 else None


def _unit_of(key: str) -> str:
    """The unit that a weight is of: ``stage2.0`` or ``conv1``."""
    parts = key.split('.')
    return '.'.join(parts[: 2 if len(parts) > 3 else 1])


def _orders(entries: list[Entry]) -> list[list[Entry]]:
    """A unit's weights with its parallel branches in every order."""

    def branch(entry: Entry) -> str:
        parts = entry[0].split('.')
        return next((p for p in parts if p.startswith('branch')), '')

    branches = [list(each) for _, each in groupby(entries, branch)]
    return [list(chain(*order)) for order in permutations(branches)]


def _kind(entry: Entry) -> tuple[str, tuple[int, ...]]:
    """What has to agree: weight or bias, mean or variance; and the shape."""
    return entry[0].rpartition('.')[2], tuple(entry[1].shape)


def current_names(
    model: nn.Module, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A checkpoint's weights by the names that a model's backbones have now.

    Some backbones once had other ones.

    Args:
        model: has backbones of this package, or is one.
        state: of a checkpoint that this package wrote.
    """
    state = dict(state)
    for name, module in model.named_modules():
        if hasattr(module, 'rename_former_keys'):
            module.rename_former_keys(state, f'{name}.' if name else '')
    return state


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


@contextmanager
def init_log(module: nn.Module) -> Iterator[Callable[[str], None]]:
    """mmengine's log of initial values, with those loaded after its own.

    mmengine writes where each parameter is from at the end of the outermost
    ``init_weights``, and knows of changes by their means.

    Gives:
        What to call, with a text, once all parameters are loaded.
    """
    outermost = not hasattr(module, '_params_init_info')
    if outermost:
        info = defaultdict(dict)
        for each in module.modules():
            each._params_init_info = info
        _note(module, 'The value is that of the constructor')
    try:
        yield lambda text: _note(module, text)
        if outermost:
            module._dump_init_info()
    finally:
        if outermost:
            for each in module.modules():
                del each._params_init_info


def _note(module: nn.Module, text: str) -> None:
    for parameter in module.parameters():
        module._params_init_info[parameter].update(
            init_info=text, tmp_mean_value=parameter.data.mean().cpu()
        )


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
    wrapper = wrapping_of(weights)
    return {k.removeprefix(wrapper): v for k, v in weights.items()}


def _checked_prefix(
    weights: Mapping[str, Tensor], prefix: str, source: str
) -> str:
    prefix = prefix.rstrip('.') + '.'
    if not within(weights, prefix):
        heads = sorted({key.split('.')[0] + '.' for key in weights})
        raise CheckpointError(
            f'prefix must be that of a module in checkpoint {source!r}, '
            f'which has {shown(heads)}; {_likeness(weights)}got {prefix!r}'
        )
    return prefix


def _likeness(weights: Iterable[str]) -> str:
    """The family that names of weights are of, as a part of a message."""
    family = family_of(weights)
    return f'it looks like {family}; ' if family else ''


def shown(keys: Iterable[str]) -> str:
    """A few of the keys, and how many more there are."""
    keys = list(keys)
    rest = f' and {len(keys) - SHOWN} more' if len(keys) > SHOWN else ''
    return ', '.join(keys[:SHOWN]) + rest
