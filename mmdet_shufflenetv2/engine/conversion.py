"""A classifier's weights from one naming to another, both ways, strictly.

Every key has to have a name on the other side, and the whole has to be one
network of `mmdet_shufflenetv2.backbones.zoo`. Values are not touched, so
there and back again gives the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..backbones.pretrained import COUNTER, declared_style, weights_of
from ..backbones.zoo import NETWORKS, Network
from ..compat.checkpoints import CheckpointError
from ..compat.foreign_checkpoints import OWN_FORMAT, CheckpointFormat
from ..compat.input_format import META_KEY, InputFormat, declared_format
from .runner import mismatches

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Classifier:
    """A classification network's weights under our names.

    Attributes:
        network: its published name.
        style: its ``style``, for families that have one.
        found: the format they were in.
        formats: all formats of its family.
        backbone: the backbone's, with all of BN's batch counters.
        head: ``weight`` and ``bias`` of the linear layer; empty if the file
            had a backbone only.
        expected_input: what they expect of images; None if not known.
        counted: whether the batch counters were there at first.
    """

    network: str
    style: str | None
    found: CheckpointFormat
    formats: tuple[CheckpointFormat, ...]
    backbone: Weights
    head: Weights
    expected_input: InputFormat | None
    counted: bool


def formats_of(backbone_type: str) -> tuple[CheckpointFormat, ...]:
    """The formats that a registered backbone's weights are found in."""
    backbone = MODELS.get(backbone_type)
    return getattr(backbone, 'checkpoint_formats', (OWN_FORMAT,))


def families() -> dict[str, tuple[CheckpointFormat, ...]]:
    """The formats of every type of backbone among the networks."""
    types = dict.fromkeys(row.config['type'] for row in NETWORKS.values())
    return {each: formats_of(each) for each in types}


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
    declared = declared_format(content)
    found = _recognise(weights, source)
    backbone, head = _parts(weights, found, source)
    counted = any(key.endswith(COUNTER) for key in backbone)
    if not counted:
        backbone = _with_counters(backbone)
    style = declared_style(content) or found.style
    network, model = _identify(backbone, found, style, source)
    _require_classifier(head, model, source)
    meta = content.get('meta') if isinstance(content, Mapping) else None
    return Classifier(
        network,
        getattr(model, 'style', None),
        found,
        formats_of(NETWORKS[network].config['type']),
        backbone,
        head,
        declared or found.input_format,
        (meta or {}).get('counted', counted),
    )


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
        if classifier.counted
        or target is OWN_FORMAT
        or not key.endswith(COUNTER)
    }
    for name, value in classifier.head.items():
        if name == 'weight' or target.classifier_bias:
            weights[f'{target.classifier}.{name}'] = value
    if target is OWN_FORMAT:
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


def _recognise(weights: Weights, source: str) -> CheckpointFormat:
    for formats in families().values():
        for found in formats:
            if found.recognises(weights):
                return found
    titles = dict.fromkeys(f.title for fs in families().values() for f in fs)
    raise CheckpointError(
        f'{source} is in none of the formats known here '
        f'({", ".join(titles)}); its keys are '
        f'{", ".join(list(weights)[:6])}, ...'
    )


def _parts(
    weights: Weights, found: CheckpointFormat, source: str
) -> tuple[Weights, Weights]:
    """The backbone's weights and the linear layer's, under our names."""
    backbone, head, unknown = {}, {}, []
    for key, value in weights.items():
        module, _, parameter = key.rpartition('.')
        if module == found.classifier:
            head[parameter] = value
        elif name := found.to_ours(key.removeprefix(found.prefix)):
            backbone[name] = value
        else:
            unknown.append(key)
    if unknown:
        raise CheckpointError(
            f'{source} looks like {found.title}, but {len(unknown)} of its '
            f'keys are not: {", ".join(unknown[:6])}'
        )
    if head and not found.classifier_bias:
        head.setdefault('bias', torch.zeros(len(head['weight'])))
    return backbone, head


def _with_counters(backbone: Weights) -> Weights:
    full = {}
    for key, value in backbone.items():
        full[key] = value
        module, _, parameter = key.rpartition('.')
        if parameter == 'running_var':
            full[f'{module}.{COUNTER}'] = torch.tensor(0)
    return full


def _outlined(row: Network, style: str | None) -> nn.Module:
    """A network with all its levels and without values."""
    config = dict(row.config, out_indices=(row.last_level,))
    if style:
        config['style'] = style
    with torch.device('meta'):
        return MODELS.build(config)


def _identify(
    backbone: Weights, found: CheckpointFormat, style: str | None, source: str
) -> tuple[str, nn.Module]:
    """The network that has exactly these weights."""
    shapes = {(key, value.shape) for key, value in backbone.items()}
    closest = (-1, '', None)
    for name, row in NETWORKS.items():
        if found not in formats_of(row.config['type']):
            continue
        model = _outlined(row, style)
        wanted = {(k, v.shape) for k, v in model.state_dict().items()}
        if wanted == shapes:
            return name, model
        closest = max(
            closest,
            (len(wanted & shapes), name, model),
            key=lambda entry: entry[0],
        )
    _, name, model = closest
    raise CheckpointError(
        f'{source} looks like {found.title}, but is no whole network of '
        f'those known here; it is closest to {name}:\n  '
        + '\n  '.join(mismatches(model, backbone))
    )


def _require_classifier(head: Weights, model: nn.Module, source: str) -> None:
    if not head:
        return
    channels = model.out_channels[-1]
    shapes = {name: tuple(value.shape) for name, value in head.items()}
    classes = len(head['weight']) if 'weight' in head else 0
    wanted = dict(weight=(classes, channels), bias=(classes,))
    if shapes != wanted:
        raise CheckpointError(
            f'the linear layer of {source} must have a weight of (classes, '
            f'{channels}) and a bias of (classes,), got {shapes}'
        )


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
    elif not target.classifier_bias and classifier.head['bias'].any():
        wrong = 'without a bias in the linear layer, which is not zero here'
    if wrong:
        raise CheckpointError(
            f'files of {target.title} are {wrong}: this would be another '
            'network'
        )
    return target
