"""A classifier's weights from one naming to another, both ways, strictly.

Every key has to have a name on the other side, and the whole has to be one
network of `mmdet_shufflenetv2.backbones.zoo`. Values are not touched, so
there and back again gives the same bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from mmdet.registry import MODELS
from torch import Tensor

from ..backbones.pretrained import COUNTER, declared_style, weights_of
from ..backbones.zoo import NETWORKS, entries_of, outlined
from ..compat.checkpoints import CheckpointError
from ..compat.input_format import (
    META_KEY,
    InputFormat,
    declared_format,
    meta_of,
)
from ..compat.weight_formats import OURS, WeightFormat, family_of
from .runner import mismatches

Weights = dict[str, Tensor]


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
    """

    network: str
    style: str | None
    formats: tuple[WeightFormat, ...]
    found: WeightFormat
    backbone: Weights
    head: Weights
    counted: bool
    expected_input: InputFormat | None = None


def formats_of(config: dict) -> tuple[WeightFormat, ...]:
    """The formats that a backbone's weights are found in.

    Args:
        config: the backbone, as ``MODELS.build`` takes it.
    """
    kind = MODELS.get(config['type'])
    return kind.formats_for(config) if hasattr(kind, 'formats_for') else ()


def read(content: object, source: str) -> Classifier:
    """Recognise a loaded checkpoint: its format, its network, its parts.

    Args:
        content: as loaded.
        source: name of the file, for messages.

    Raises:
        CheckpointError: the format is not known, or the weights are not
            those of one whole network, with a linear layer or without; says
            what is missing or too much. Or the meta data are nonsense.
    """
    weights = weights_of(content, source)
    style = declared_style(content)
    # (entries that a network lacks or has besides, its name, the format)
    nearest = min(
        _distances(weights, style, source),
        key=lambda candidate: candidate[0],
        default=None,
    )
    if nearest is None:
        likeness = family_of(weights)
        raise CheckpointError(
            f'{source} does not hold a network that can be converted; '
            + (f'it looks like {likeness}; ' if likeness else '')
            + f'its keys are {", ".join(list(weights)[:6])}, ...'
        )
    best, problems = _taken(weights, *nearest[1:], style)
    if problems:
        raise CheckpointError(
            f'{source} looks like {family_of(weights)}, but is not a whole '
            f'network; it is closest to {best.network}:\n  '
            + '\n  '.join(problems)
        )
    if best.head and best.found.only_backbone:
        raise CheckpointError(
            f'{source} is {best.network}, but has a classifier that '
            f'{best.found.only_backbone}, which no other format can hold; '
            'the backbone alone can be converted'
        )
    declared = declared_format(content, source)
    best.expected_input = declared or best.found.input_format
    best.counted = meta_of(content).get('counted', best.counted)
    return best


def write(classifier: Classifier, to: str) -> dict:
    """The content of a file in another format.

    Args:
        classifier: as `read` gives it.
        to: name of the format.

    Raises:
        CheckpointError: the project has no such network, or has it in
            another style, for other images, without a bias or with another
            kind of classifier.
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


def _distances(
    weights: Weights, style: str | None, source: str
) -> Iterator[tuple[int, str, WeightFormat]]:
    """How far the weights are from each network in each format they fit."""
    for network, row in NETWORKS.items():
        for found in formats_of(row.config):
            if not found.recognises(
                key.removeprefix(found.prefix) for key in weights
            ):
                continue
            kind = MODELS.get(row.config['type'])
            styles = (found.style,) if found.style else kind.styles
            if style not in (None, *styles):
                raise CheckpointError(
                    f'{source} looks like {found}; its meta.style must then '
                    f'be {" or ".join(map(repr, (None, *styles)))}, got '
                    f'{style!r}'
                )
            backbone, _, _ = _parts(weights, found)
            entries = {(k, tuple(v.shape)) for k, v in backbone.items()}
            expected = entries_of(network, style or found.style)
            yield len(entries ^ expected), network, found


def _taken(
    weights: Weights, network: str, found: WeightFormat, style: str | None
) -> tuple[Classifier, list[str]]:
    """The weights as those of a network, and what speaks against it."""
    model = outlined(network, style or found.style)
    backbone, head, counted = _parts(weights, found)
    problems = mismatches(model, backbone)
    if not found.only_backbone:
        channels = NETWORKS[network].channels or model.out_channels[-1]
        problems += _misshapen(head, channels)
    classifier = Classifier(
        network,
        getattr(model, 'style', None),
        formats_of(NETWORKS[network].config),
        found,
        backbone,
        head,
        counted,
    )
    return classifier, problems


def _parts(
    weights: Weights, found: WeightFormat
) -> tuple[Weights, Weights, bool]:
    """The backbone, the linear layer, and whether there were counters."""
    backbone, head = {}, {}
    for key, value in weights.items():
        if found.is_classifier(key):
            head[key.removeprefix(f'{found.classifier}.')] = value
        else:
            name = found.to_ours(key.removeprefix(found.prefix))
            backbone[name or key] = value
    counted = any(key.endswith(COUNTER) for key in backbone)
    if not counted:
        backbone = _with_counters(backbone)
    weight = head.get('weight')
    if weight is not None and weight.shape[2:] == (1, 1):
        # A classifier may be written as a 1x1 convolution.
        head['weight'] = weight.flatten(1)
    if weight is not None and not found.classifier_bias:
        head.setdefault('bias', torch.zeros(head['weight'].shape[:1]))
    return backbone, head, counted


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
    classes = next(iter(shapes.get('weight', ())), 0)
    wanted = dict(weight=(classes, channels), bias=(classes,))
    if not head or shapes == wanted:
        return []
    return [
        f'the linear layer must have a weight of (classes, {channels}) and '
        f'a bias of (classes,), got {shapes}'
    ]


def _target(classifier: Classifier, to: str) -> WeightFormat:
    """The format to write; raises where the network would be another."""
    by_name = {
        each.name: each
        for each in classifier.formats
        if each.writes(classifier.network)
    }
    if to not in by_name:
        raise CheckpointError(
            f'{to} has no such network as {classifier.network}, which can be '
            f'written as {", ".join(by_name)}'
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
    elif classifier.head and target.only_backbone:
        wrong = f'with a classifier that {target.only_backbone}'
    if wrong:
        raise CheckpointError(
            f'files of {target} are {wrong}: this would be another network'
        )
    return target
