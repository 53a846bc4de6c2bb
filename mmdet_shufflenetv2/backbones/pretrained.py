"""Public pretrained weights, and how to load any checkpoint into a backbone.

Configs name weights in ``init_cfg=dict(type='Pretrained', checkpoint=URL)``;
mmengine downloads them once, into torch hub's cache.
"""

import os
import re
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
    recognise,
    within,
)
from ..errors import UserError
from .zoo import NETWORKS, family_in, network_of, outlined

# Published network name -> URL. V2* starts from V2's weights, with its extra
# convolutions as identities. ShuffleNet V1's have style 'mmpretrain'.
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
# Checkpoint keys under which training frameworks store the weights.
WRAPPERS = (
    *('state_dict', 'model', 'model_state_dict', 'net', 'weights'),
    *('state_dict_ema', 'model_ema', 'ema'),
)
# Old checkpoints lack it; it has no effect when the momentum is fixed.
COUNTER = 'num_batches_tracked'
# Prefixes that DistributedDataParallel and `torch.compile` add to every name.
WRAPPING = re.compile(r'((module|_orig_mod)\.)*')
MISSING = 'missing in the checkpoint'


def public_weights(backbone: Mapping) -> str | None:
    """The URL of public weights for a config's backbone, or None."""
    if backbone.get('type') == 'ResNet':
        return RESNETS.get(backbone.get('depth'))
    # The same weights fit whatever these are.
    others = ('strides', 'dilations', 'norm_cfg')
    config = {k: v for k, v in backbone.items() if k not in others}
    return PUBLIC_WEIGHTS.get(network_of(config))


def fetch_weights(checkpoint: str) -> None:
    """Download weights unless cached; the UserError lists alternatives."""
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
            f'cannot load the starting weights {checkpoint}: {reason}\n'
            f'Do one of the following:\n{cache}'
            '  --backbone-weights FILE   start from weights you have\n'
            '  --from-scratch            start from random weights, which '
            'gives different results'
        ) from error


def load_pretrained(
    backbone: nn.Module,
    checkpoint: str,
    prefix: str | None = None,
    map_location: str = 'cpu',
    style: str | None = None,
) -> None:
    """Load a checkpoint of the backbone's network, whatever its key names.

    Names are translated by `compat.weight_formats`. Unknown names load if the
    tensors fit one to one in order. Classifiers and levels that are not built
    are ignored; everything else must match. Logs the result, and stores the
    input format of the weights as the backbone's ``expected_input``.

    Args:
        backbone: a `StagedBackbone`.
        checkpoint: path or URL.
        prefix: of the backbone's keys, if it cannot be detected.
        map_location: as in ``torch.load``.
        style: of the weights, if neither names nor shapes determine it.

    Raises:
        CheckpointError: the file holds no weights, or weights of another
            network, width or style; the backbone is unchanged.
    """
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location)
    fit = find_fit(backbone, content, checkpoint, prefix, style)
    fit.check(backbone, checkpoint)
    own = backbone.state_dict()
    counters = {k: v for k, v in own.items() if k.endswith(COUNTER)}
    weights = counters | fit.new | fit.named
    backbone.load_state_dict({key: weights[key] for key in own})
    backbone.expected_input = fit.expected_input
    report = [
        f'Loaded {len(fit.named) - len(fit.not_built)} tensors from '
        f'{checkpoint} ({fit.title(backbone)}), none missing, none unexpected.'
    ]
    for what, keys in (
        ('Ignored', fit.ignored),
        ('Ignored, of levels not built', fit.not_built),
        ('New layers, initialised as identities', fit.new),
    ):
        if keys:
            report.append(f'{what}: {shown(keys)}.')
    report.append(f'Expected input: {fit.expected_input or "not stated"}.')
    print_log(' '.join(report), logger='current')


@dataclass
class Fit:
    """How a checkpoint maps to a backbone.

    Attributes:
        found: the format of the names; None if they are unknown and tensors
            are matched by order.
        prefix: of the backbone's keys in the checkpoint.
        style: the backbone style that the weights need; None for any.
        named: the backbone's tensors, including levels not built, under our
            names where there are any and their own otherwise.
        ignored: keys outside of the backbone, such as a classifier's.
        not_built: keys of levels that are not built.
        new: neutral weights for layers that the checkpoint lacks.
        problems: kind of mismatch -> names.
        expected_input: the weights' input format, if it is known.
    """

    found: WeightFormat | None
    prefix: str
    style: str | None
    named: dict[str, Tensor] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    not_built: list[str] = field(default_factory=list)
    new: dict[str, Tensor] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    expected_input: InputFormat | None = None

    @property
    def distance(self) -> int:
        """The number of entries that do not fit."""
        return sum(map(len, self.problems.values()))

    def title(self, backbone: nn.Module) -> str:
        """The network's published name, if it has one, family and format."""
        family = getattr(backbone, 'family', type(backbone).__name__)
        if not self.found:
            title = f'{family} with unknown names'
        else:
            title = f'{family} in the format of {self.found}'
        meta = dict(style=self.style)
        name, _, fit = closest_network(
            dict(state_dict=self.named, meta=meta), '', [family]
        )
        # The last levels may be missing: detectors do not build them.
        known = name and fit.problems.keys() <= {MISSING}
        return f'{name}, {title}' if known else title

    def misfits(self, backbone: nn.Module) -> list[str]:
        """One phrase for each kind of problem."""
        problems = phrases(self.problems)
        own = getattr(backbone, 'style', None)
        if self.style not in (None, own):
            problems.append(f'expected style {self.style!r}, got {own!r}')
        return problems

    def check(self, backbone: nn.Module, source: str) -> None:
        """Raise `CheckpointError` if anything does not fit."""
        if misfits := self.misfits(backbone):
            raise CheckpointError(
                f'checkpoint {source!r} looks like {self.title(backbone)}, '
                f'but does not fit {type(backbone).__name__}: '
                + '; '.join(misfits)
            )


def find_fit(
    backbone: nn.Module,
    content: object,
    source: str,
    prefix: str | None = None,
    style: str | None = None,
) -> Fit:
    """Map a checkpoint's content to a backbone without loading it.

    The backbone may be on the meta device. Backbones of other projects accept
    no names but their own, stored where mmengine looks for them.

    Raises:
        CheckpointError: the prefix is missing or ambiguous, or the weights
            are of another family.
    """
    style = meta_of(content).get('style') or style
    formats = getattr(backbone, 'formats', None)
    if formats is None:
        kind = type(backbone).__name__
        parts = {key.partition('.')[0] for key in backbone.state_dict()}
        signature = tuple(rf'{re.escape(part)}(?:\.|$)' for part in parts)
        formats = (WeightFormat(kind, 'mmdet', signature=signature),)
        weights = content.get('state_dict', content)
    else:
        weights = weights_of(content, source)
    if prefix is not None:
        prefix = prefix.rstrip('.') + '.'
    hits = {
        at: found
        for at, found in recognise(weights, formats).items()
        if prefix in (None, at)
    }
    if len(hits) > 1 and next(iter(hits)) not in USUAL_PREFIXES:
        raise CheckpointError(
            f'checkpoint {source!r} has several backbones; expected prefix '
            f'to be one of {", ".join(hits)}, got {prefix}'
        )
    if hits:
        at = next(iter(hits))
        inner = within(weights, at)
        fits = [_fit(backbone, inner, found, at, style) for found in hits[at]]
        fit = min(fits, key=lambda fit: fit.distance)
    else:
        at = prefix or next(
            (p for p in reversed(USUAL_PREFIXES) if within(weights, p)), ''
        )
        inner = within(weights, at)
        problems = [f'it looks like {family_of(weights)}']
        if not hasattr(backbone, 'formats'):
            problems += phrases(mismatches(backbone.state_dict(), inner))
        try:
            if recognise(weights) or len(problems) > 1:
                raise CheckpointError('; '.join(problems))
            fit = _fit_in_order(backbone, inner, at, style)
        except CheckpointError as error:
            raise CheckpointError(
                f'checkpoint {source!r}, under prefix {at!r}, has none of '
                f'the formats that {type(backbone).__name__} reads '
                f'({", ".join(map(str, formats))}); {error}; its keys are '
                + shown(weights)
            ) from None
    fit.ignored += [key for key in weights if not key.startswith(fit.prefix)]
    stated = fit.found and fit.found.input_format
    fit.expected_input = declared_format(content, source) or stated
    return fit


def _fit(
    backbone: nn.Module,
    weights: dict[str, Tensor],
    found: WeightFormat,
    prefix: str,
    style: str | None,
) -> Fit:
    """Translate a checkpoint's keys and compare them with the backbone's."""
    fit = Fit(found, prefix, found.style or style)
    wanted = backbone.state_dict()
    levels = set(getattr(backbone, 'level_names', ()))
    levels -= set(getattr(backbone, 'stage_names', ()))
    parts = levels | {key.partition('.')[0] for key in wanted}
    names = {key: found.to_ours(key) or '' for key in weights}
    names = {k: n for k, n in names.items() if n.partition('.')[0] in parts}
    # Unknown keys in a top-level module that has known ones are misfits.
    theirs = {key.partition('.')[0] for key in names}
    for key, value in weights.items():
        if key in names or key.partition('.')[0] in theirs:
            fit.named[names.get(key, key)] = value
        else:
            fit.ignored.append(key)
    fit.not_built = [k for k in fit.named if k.partition('.')[0] in levels]
    if hasattr(backbone, 'neutral_weights'):
        new = backbone.neutral_weights()
        if not new.keys() & fit.named.keys():
            fit.new = new
    # Files older than the counter are complete without it.
    counters = {k: v for k, v in wanted.items() if k.endswith(COUNTER)}
    given = {k: v for k, v in fit.named.items() if k not in fit.not_built}
    fit.problems = mismatches(wanted, counters | fit.new | given)
    return fit


def _fit_in_order(
    backbone: nn.Module,
    weights: dict[str, Tensor],
    prefix: str,
    style: str | None,
) -> Fit:
    """Match tensors with unknown names by order and shape.

    The branches of a unit may come in any order. The tensors left over are
    levels not built or a classifier. `find_fit` completes the errors.
    """
    fit = Fit(None, prefix, style)
    given, wanted = (
        [(k, v) for k, v in entries.items() if not k.endswith(COUNTER)]
        for entries in (weights, backbone.state_dict())
    )

    def unit_of(entry: tuple[str, Tensor]) -> str:
        parts = entry[0].split('.')
        return '.'.join(parts[: 2 if len(parts) > 3 else 1])

    def branch_of(entry: tuple[str, Tensor]) -> list[str]:
        return re.findall(r'\.branch\d?', entry[0])

    def kinds(entries: list[tuple[str, Tensor]]) -> list[tuple]:
        # The parameter's own name, such as "weight", and its shape.
        return [(k.rpartition('.')[2], v.shape) for k, v in entries]

    for unit, entries in groupby(wanted, unit_of):
        entries = list(entries)
        here, given = given[: len(entries)], given[len(entries) :]
        branches = [list(each) for _, each in groupby(entries, branch_of)]
        orders = [list(chain(*each)) for each in permutations(branches)]
        orders = [o for o in orders if kinds(o) == kinds(here)]
        if len(orders) != 1:
            first = ''.join(f'{k} {tuple(v.shape)}' for k, v in here[:1])
            several = f'fit {unit} in more than one way'
            raise CheckpointError(
                f'matched in order, its tensors from {first} on '
                + (several if orders else f'do not fit {unit}')
            )
        for (name, _), (_, value) in zip(orders[0], here, strict=True):
            fit.named[name] = value
    fit.ignored = [key for key, _ in given]
    styles = backbone.styles_of_these_shapes
    if style is None and len(styles) > 1:
        raise CheckpointError(
            'its tensors fit one to one, but neither names nor shapes '
            'determine the order of their channels: set style, of the '
            f'backbone and of its init_cfg, to one of {", ".join(styles)}'
        )
    return fit


def closest_network(
    content: object, source: str, families: Iterable[str] | None = None
) -> tuple[str | None, nn.Module | None, Fit | None]:
    """The zoo's network closest to a checkpoint, its backbone and the fit.

    Considers ``families``, or else those that the names belong to. The
    backbone is on the meta device. All three are None if nothing matches.
    """
    weights, declared = weights_of(content, source), meta_of(content)
    rows = chain(*recognise(weights).values())
    styles = {
        (row.family, declared.get('style') or row.style): None
        for row in rows
        if families is None or row.family in families
    }
    best = None, None, None
    for name, (family, style) in product(NETWORKS, styles):
        if family == family_in(NETWORKS[name].config):
            backbone = outlined(name, style)
            fit = find_fit(backbone, content, source, style=style)
            if best[2] is None or fit.distance < best[2].distance:
                best = name, backbone, fit
    return best


def mismatches(
    wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> dict[str, list[str]]:
    """Names that are missing, unknown or of another shape, by kind."""
    kinds = {
        MISSING: [k for k in wanted if k not in state],
        'unknown to the model': [k for k in state if k not in wanted],
        'of another shape': [
            f'{k} (checkpoint {tuple(state[k].shape)}, '
            f'model {tuple(wanted[k].shape)})'
            for k in wanted
            if k in state and state[k].shape != wanted[k].shape
        ],
    }
    return {kind: keys for kind, keys in kinds.items() if keys}


def phrases(problems: Mapping[str, list[str]]) -> list[str]:
    """Phrases for messages, one for each kind of `mismatches`."""
    return [f'{len(v)} {kind}: {shown(v)}' for kind, v in problems.items()]


def weights_of(content: object, source: str) -> dict[str, Tensor]:
    """The weights in a checkpoint, without dict or name wrappers."""
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
    wrapper = min((WRAPPING.match(key)[0] for key in weights), key=len)
    return {k.removeprefix(wrapper): v for k, v in weights.items()}


def shown(keys: Iterable[str], most: int = 5) -> str:
    """The first few names, for messages."""
    keys = list(keys)
    return ', '.join(keys[:most]) + (', ...' if len(keys) > most else '')
