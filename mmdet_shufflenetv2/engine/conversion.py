"""A classifier's weights from one naming to another, both ways, strictly.

Every key has to have a name on the other side, and the whole has to be one
network of `mmdet_shufflenetv2.backbones.zoo`. Values are not touched, so
there and back again gives the same bits.
"""

from dataclasses import dataclass

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..backbones.pretrained import COUNTER, declared_style, weights_of
from ..backbones.zoo import NETWORKS, entries_of, outlined
from ..compat.checkpoints import CheckpointError
from ..compat.input_format import (
    META_KEY,
    InputFormat,
    declared_format,
)
from ..compat.weight_formats import OURS, WeightFormat, family_of, within
from .weights import mismatches

Weights = dict[str, Tensor]


@dataclass
class Classifier:
    """A classification network's weights under our names."""

    network: str
    style: str | None
    # The format they were in.
    found: WeightFormat
    # With all of BN's batch counters.
    backbone: Weights
    # Weight and bias of the linear layer, if the file had one.
    head: Weights
    expected_input: InputFormat | None


def formats_of(config: dict) -> tuple[WeightFormat, ...]:
    """The formats that a backbone's weights are found in."""
    kind = MODELS.get(config['type'])
    return kind.formats_for(config) if hasattr(kind, 'formats_for') else ()


def read(content: object, source: str) -> Classifier:
    """Recognise a loaded checkpoint: its format, its network, its parts.

    `CheckpointError` unless it is one whole network, with a linear layer or
    without; says what is missing or too much.
    """
    weights, declared = weights_of(content, source), declared_style(content)
    family = family_of(weights) or 'no known network'
    least, best = float('inf'), None
    for name, row in NETWORKS.items():
        for found in formats_of(row.config):
            keys = (key.removeprefix(found.prefix) for key in weights)
            if not found.recognises(keys):
                continue
            kind = MODELS.get(row.config['type'])
            styles = (found.style,) if found.style else kind.styles
            if declared not in (None, *styles):
                raise CheckpointError(
                    f'{source} looks like {found}, so its meta.style must be '
                    f'one of {(None, *styles)}, got {declared!r}'
                )
            style = declared or found.style
            backbone, head = _parts(weights, found)
            shapes = {(k, tuple(v.shape)) for k, v in backbone.items()}
            distance = len(shapes ^ entries_of(name, style))
            if distance < least:
                least, best = distance, (name, found, style, backbone, head)
    if best is None:
        raise CheckpointError(
            f'{source} does not hold a network that can be converted; it '
            f'looks like {family}; its keys are '
            f'{", ".join(list(weights)[:6])}, ...'
        )
    name, found, style, backbone, head = best
    model = outlined(name, style)
    wanted = model.state_dict()
    if head:
        classes = next(iter(head.get('weight', torch.empty(0)).shape), 0)
        channels = NETWORKS[name].channels or model.out_channels[-1]
        linear = nn.Linear(channels, classes, device='meta').state_dict()
        wanted |= {f'{found.classifier}.{k}': v for k, v in linear.items()}
    given = {f'{found.classifier}.{k}': v for k, v in head.items()}
    problems = mismatches(wanted, backbone | given)
    if head and found.only_backbone:
        problems.append(
            f'its classifier {found.only_backbone}, which no other format '
            'can hold; the backbone alone can be converted'
        )
    if problems:
        raise CheckpointError(
            f'{source} looks like {family}, but is not a whole network that '
            f'can be converted; it is closest to {name}:\n  '
            + '\n  '.join(problems)
        )
    return Classifier(
        name,
        getattr(model, 'style', None),
        found,
        backbone,
        head,
        declared_format(content, source) or found.input_format,
    )


def _parts(weights: Weights, found: WeightFormat) -> tuple[Weights, Weights]:
    """The backbone, with all counters, and the linear layer."""
    head = within(weights, f'{found.classifier}.')
    backbone = {}
    for key, value in weights.items():
        if not found.is_classifier(key):
            key = found.to_ours(key.removeprefix(found.prefix)) or key
            backbone[key] = value
            if key.endswith('running_var'):
                counter = key.removesuffix('running_var') + COUNTER
                backbone.setdefault(counter, torch.tensor(0))
    weight = head.get('weight')
    if weight is not None and weight.shape[2:] == (1, 1):
        # A classifier may be written as a 1x1 convolution.
        head['weight'] = weight.flatten(1)
    if weight is not None and not found.classifier_bias:
        head.setdefault('bias', torch.zeros(len(weight)))
    return backbone, head


def write(classifier: Classifier, to: str) -> dict:
    """The content of a file in the format of this name.

    `CheckpointError` where the project has no such network, or has it in
    another style, for other images or with another classifier.
    """
    formats = {
        each.name: each
        for each in formats_of(NETWORKS[classifier.network].config)
        if each.writes(classifier.network)
    }
    if to not in formats:
        raise CheckpointError(
            f'{to} has no such network as {classifier.network}, which can be '
            f'written as {", ".join(formats)}'
        )
    target, head = formats[to], classifier.head
    theirs, ours = target.input_format, classifier.expected_input
    wrong = None
    if target.style not in (None, classifier.style):
        wrong = f'of style {target.style!r}, not {classifier.style!r}'
    elif theirs and ours and not theirs.agrees_with(ours):
        wrong = f'for images as {theirs}, not {ours}'
    elif head and not target.classifier_bias and head['bias'].any():
        wrong = 'without a bias in the linear layer, which is not zero here'
    elif head and target.only_backbone:
        wrong = f'with a classifier that {target.only_backbone}'
    if wrong:
        raise CheckpointError(
            f'files of {target} are {wrong}: this would be another network'
        )
    weights = {
        target.prefix + target.to_theirs(key): value
        for key, value in classifier.backbone.items()
    }
    for name, value in head.items():
        if name == 'weight' or target.classifier_bias:
            weights[f'{target.classifier}.{name}'] = value
    if to != OURS:
        return dict(state_dict=weights) if target.wrapped else weights
    meta = dict(network=classifier.network, style=classifier.style)
    if ours:
        meta[META_KEY] = ours.to_meta()
    return dict(meta=meta, state_dict=weights)
