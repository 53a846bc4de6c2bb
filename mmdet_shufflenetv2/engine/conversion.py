"""A classifier's weights from one naming to another, both ways, strictly.

Every key has to have a name on the other side, and the whole has to be one
network of `mmdet_shufflenetv2.backbones.zoo`. Values are not touched, so
there and back again gives the same bits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..backbones.pretrained import COUNTER, declared_style, weights_of
from ..backbones.zoo import NETWORKS
from ..compat.checkpoints import CheckpointError
from ..compat.foreign_checkpoints import OWN_FORMAT, CheckpointFormat
from ..compat.foreign_families import FAMILIES, family_of
from ..compat.input_format import META_KEY, InputFormat, declared_format
from .runner import mismatches

Weights = dict[str, Tensor]

#: What ``to`` of `write` may be; a network has some of them.
FORMAT_NAMES = tuple(
    dict.fromkeys(each.name for own in FAMILIES.values() for each in own)
)
OURS = OWN_FORMAT.name


@dataclass
class Classifier:
    """A classification network's weights under our names.

    Attributes:
        network: its published name.
        style: its ``style``, for families that have one.
        formats: what its family's weights are found in.
        found: the one they were in.
        backbone: the backbone's, with all of BN's batch counters.
        head: ``weight`` and ``bias`` of the linear layer; empty if the file
            had a backbone only.
        counted: whether the batch counters were there at first.
        expected_input: what they expect of images; None if not known.
        distance: entries that the network lacks or has besides.
        problems: the same in words.
    """

    network: str
    style: str | None
    formats: tuple[CheckpointFormat, ...]
    found: CheckpointFormat
    backbone: Weights
    head: Weights
    counted: bool
    expected_input: InputFormat | None = None
    distance: int = 0
    problems: list[str] = field(default_factory=list)


def formats_of(config: dict) -> tuple[CheckpointFormat, ...]:
    """The formats that a backbone's weights are found in.

    Args:
        config: the backbone, as ``MODELS.build`` takes it.
    """
    kind = MODELS.get(config['type'])
    if 'checkpoint_formats' in vars(kind):
        return kind.checkpoint_formats
    # Some networks only know when they are built.
    return getattr(_outlined(config), 'checkpoint_formats', ())


def read(content: object, source: str) -> Classifier:
    """Recognise a loaded checkpoint: its format, its network, its parts.

    Args:
        content: as loaded.
        source: name of the file, for messages.

    Raises:
        CheckpointError: the format is not known, or the weights are not
            those of one whole network; says what is missing or too much.
    """
    weights = weights_of(content, source)
    style = declared_style(content)
    attempts = []
    for network, formats, found in _recognised(weights):
        attempts.append(_attempt(weights, network, formats, found, style))
        if not attempts[-1].problems:
            break
    if not attempts:
        likeness = family_of(weights)
        raise CheckpointError(
            f'{source} has the weights of no network that can be converted; '
            + (f'it looks like {likeness}; ' if likeness else '')
            + f'its keys are {", ".join(list(weights)[:6])}, ...'
        )
    best = min(attempts, key=lambda attempt: attempt.distance)
    if best.problems:
        raise CheckpointError(
            f'{source} looks like {best.found.title}, but is no whole '
            f'network; it is closest to {best.network}:\n  '
            + '\n  '.join(best.problems)
        )
    best.expected_input = declared_format(content) or best.found.input_format
    meta = content.get('meta') if isinstance(content, Mapping) else None
    best.counted = (meta or {}).get('counted', best.counted)
    return best


def write(classifier: Classifier, to: str) -> dict:
    """The content of a file in another format.

    Args:
        classifier: as `read` gives it.
        to: name of the format.

    Raises:
        CheckpointError: the network has no such format, or such files are
            for another style, for other images or have no bias.
    """
    target = _target(classifier, to)
    weights = {
        target.prefix + target.to_theirs(key): value
        for key, value in classifier.backbone.items()
        if classifier.counted or to == OURS or not key.endswith(COUNTER)
    }
    for name, value in classifier.head.items():
        if name == 'weight' or target.classifier_bias:
            weights[f'{target.classifier}.{name}'] = value
    if to == OURS:
        return dict(meta=_meta(classifier), state_dict=weights)
    return dict(state_dict=weights) if target.wrapped else weights


def _meta(classifier: Classifier) -> dict:
    meta = dict(
        network=classifier.network,
        style=classifier.style,
        counted=classifier.counted,
    )
    if classifier.expected_input:
        meta[META_KEY] = classifier.expected_input.to_meta()
    return meta


def _recognised(
    weights: Weights,
) -> Iterator[tuple[str, tuple[CheckpointFormat, ...], CheckpointFormat]]:
    """Networks that the keys may be of, their formats, and the one found."""
    if not family_of(weights):
        return
    for network in NETWORKS:
        formats = _formats_of_network(network)
        for found in formats:
            if found.recognises(weights):
                yield network, formats, found
                break


@cache
def _formats_of_network(name: str) -> tuple[CheckpointFormat, ...]:
    return formats_of(NETWORKS[name].config)


def _attempt(
    weights: Weights,
    network: str,
    formats: tuple[CheckpointFormat, ...],
    found: CheckpointFormat,
    style: str | None,
) -> Classifier:
    """The weights as those of a network, and what speaks against it."""
    row = NETWORKS[network]
    config = dict(row.config, out_indices=(row.last_level,))
    if style or found.style:
        config['style'] = style or found.style
    model = _outlined(config)
    backbone, head = {}, {}
    for key, value in weights.items():
        module, _, parameter = key.rpartition('.')
        name = found.to_ours(key.removeprefix(found.prefix))
        if module == found.classifier:
            head[parameter] = value
        else:
            backbone[name or key] = value
    counted = any(key.endswith(COUNTER) for key in backbone)
    if not counted:
        backbone = _with_counters(backbone)
    if head and not found.classifier_bias:
        head.setdefault('bias', torch.zeros(len(head['weight'])))
    channels = row.channels or model.out_channels[-1]
    return Classifier(
        network,
        getattr(model, 'style', None),
        formats,
        found,
        backbone,
        head,
        counted,
        distance=len(_entries(model.state_dict()) ^ _entries(backbone)),
        problems=mismatches(model, backbone) + _misshapen(head, channels),
    )


def _entries(weights: Mapping[str, Tensor]) -> set:
    return {(key, value.shape) for key, value in weights.items()}


def _outlined(config: dict) -> nn.Module:
    """A network without values."""
    with torch.device('meta'):
        return MODELS.build(config)


def _with_counters(backbone: Weights) -> Weights:
    full = {}
    for key, value in backbone.items():
        full[key] = value
        module, _, parameter = key.rpartition('.')
        if parameter == 'running_var':
            full[f'{module}.{COUNTER}'] = torch.tensor(0)
    return full


def _misshapen(head: Weights, channels: int) -> list[str]:
    """What is wrong with the linear layer, where there is one."""
    shapes = {name: tuple(value.shape) for name, value in head.items()}
    classes = shapes.get('weight', (0,))[0]
    wanted = dict(weight=(classes, channels), bias=(classes,))
    if not head or shapes == wanted:
        return []
    return [
        f'the linear layer must have a weight of (classes, {channels}) and '
        f'a bias of (classes,), got {shapes}'
    ]


def _target(classifier: Classifier, to: str) -> CheckpointFormat:
    """The format to write; raises where the network would be another."""
    by_name = {each.name: each for each in classifier.formats}
    if to not in by_name:
        raise CheckpointError(
            f'{classifier.network} can be written as '
            f'{", ".join(by_name)}, got {to!r}'
        )
    target = by_name[to]
    expected = classifier.expected_input
    wrong = None
    if target.style not in (None, classifier.style):
        wrong = f'of style {target.style!r}, not {classifier.style!r}'
    elif (
        expected
        and target.input_format
        and not target.input_format.agrees_with(expected)
    ):
        wrong = f'for images as {target.input_format}, not {expected}'
    elif (
        classifier.head
        and not target.classifier_bias
        and classifier.head['bias'].any()
    ):
        wrong = 'without a bias in the linear layer, which is not zero here'
    if wrong:
        raise CheckpointError(
            f'files of {target.title} are {wrong}: this would be another '
            'network'
        )
    return target
