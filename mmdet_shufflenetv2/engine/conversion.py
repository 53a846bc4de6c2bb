"""Convert a classifier's weights between the formats of several projects.

Every key must have a counterpart, and together they must form one network of
`mmdet_shufflenetv2.backbones.zoo`. Values are not changed, so converting back
gives identical weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..backbones.pretrained import (
    COUNTER,
    Fit,
    closest_network,
    mismatches,
    phrases,
    shown,
    weights_of,
)
from ..backbones.zoo import NETWORKS, outlined
from ..compat.checkpoints import CheckpointError
from ..compat.input_format import META_KEY
from ..compat.weight_formats import OURS, family_of, within


@dataclass
class Classifier:
    """A classification network's weights under our names."""

    network: str
    style: str | None
    # The backbone's weights, including all BN counters.
    fit: Fit
    # Weight and bias of the linear layer; empty if the file has none.
    head: dict[str, Tensor]


def read(content: object, source: str) -> Classifier:
    """Recognise the format, the network and the parts of a checkpoint.

    It must hold one complete network, with or without a linear layer;
    otherwise `CheckpointError` lists what is missing or unexpected.
    """
    weights = weights_of(content, source)
    name, backbone, fit = closest_network(content, source)
    if fit is None:
        raise CheckpointError(
            f'{source} does not hold a network that can be converted; it '
            f'looks like {family_of(weights)} and has {shown(weights)}'
        )
    named, layer = fit.named, fit.found.classifier
    for key, value in backbone.state_dict().items():
        if key.endswith(COUNTER):
            named.setdefault(key, torch.zeros_like(value, device='cpu'))
    head = within(weights, f'{layer}.') if layer else {}
    others = {*fit.ignored} - {f'{layer}.{key}' for key in head}
    problems = fit.misfits(backbone)
    if others:
        problems.append(
            'part of neither the backbone nor a linear layer over all its '
            f'channels: {shown(sorted(others))}'
        )
    if head:
        weight = head.get('weight', torch.empty(1, 0))
        if weight.shape[2:] == (1, 1):
            # A classifier may be stored as a 1x1 convolution.
            weight = head['weight'] = weight.flatten(1)
        if not fit.found.classifier_bias:
            head.setdefault('bias', torch.zeros(len(weight)))
        channels = NETWORKS[name].channels or backbone.out_channels[-1]
        linear = nn.Linear(channels, len(weight), device='meta').state_dict()
        problems += phrases(mismatches(linear, head))
    if problems:
        raise CheckpointError(
            f'{source} looks like {family_of(weights)}, but is not a complete '
            f'network that can be converted; it is closest to {name}:\n  '
            + '\n  '.join(problems)
        )
    return Classifier(name, getattr(backbone, 'style', None), fit, head)


def write(classifier: Classifier, to: str) -> dict:
    """The content of a checkpoint file in the format named ``to``.

    `CheckpointError` if the other project does not have this network, or only
    with another style, input format or classifier.
    """
    network, style = classifier.network, classifier.style
    formats = {
        each.name: each
        for each in outlined(network, style).formats
        if each.networks is None or network in each.networks
    }
    if to not in formats:
        raise CheckpointError(
            f'{to} has no network {network}; it can be written as '
            + ', '.join(formats)
        )
    target, head = formats[to], classifier.head
    theirs, ours = target.input_format, classifier.fit.expected_input
    wrong = None
    if target.style not in (None, style):
        wrong = f'the style {target.style!r}, not {style!r}'
    elif theirs and ours and not theirs.agrees_with(ours):
        wrong = f'the input format {theirs}, not {ours}'
    elif head and not target.classifier:
        wrong = 'a classifier that reads only some of the channels'
    elif head and not target.classifier_bias and head['bias'].any():
        wrong = 'no bias in the linear layer, and here it is not zero'
    if wrong:
        raise CheckpointError(
            f'{target} has another network named {network}: it has {wrong}'
        )
    weights = {
        target.prefix + target.to_theirs(key): value
        for key, value in classifier.fit.named.items()
    }
    for name, value in head.items():
        if name == 'weight' or target.classifier_bias:
            weights[f'{target.classifier}.{name}'] = value
    if to != OURS:
        return dict(state_dict=weights) if target.wrapped else weights
    meta = dict(network=network, style=style)
    if ours:
        meta[META_KEY] = ours.to_meta()
    return dict(meta=meta, state_dict=weights)
