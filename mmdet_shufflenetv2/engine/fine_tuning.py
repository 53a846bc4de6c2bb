"""Start a detector from the checkpoint of one that knows other classes."""

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..compat.input_format import declared_format
from ..data.table import shorten
from .checkpoint_meta import adopt_input_format, checkpoint_classes
from .run_config import dicts_of, without_pretrained
from .runner import CheckpointMismatch, mismatches


def prepare_for(cfg: Config, filename: str) -> None:
    """Give the model the images that the checkpoint expects.

    Args:
        cfg: Changed in place; weights that it starts from are left out.
        filename: Path of the checkpoint.
    """
    checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
    adopt_input_format(cfg, declared_format(checkpoint, filename), filename)
    without_pretrained(cfg)


def load_other_classes(
    model: nn.Module, cfg: Config, filename: str, classes: tuple[str, ...]
) -> None:
    """Load all that does not depend on the classes, and what they share.

    Args:
        model: Receives the weights.
        cfg: Its config.
        filename: Path of a checkpoint of the same detector.
        classes: The model's, in the order of the labels.

    Raises:
        CheckpointMismatch: Something that does not depend on the classes
            differs, or the checkpoint does not say what its classes are.
    """
    checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
    known = checkpoint_classes(checkpoint)
    if known is None:
        raise CheckpointMismatch(
            f'--from {filename}: it does not say which classes it knows'
        )
    state = {
        key.removeprefix('module.'): value
        for key, value in checkpoint.get('state_dict', checkpoint).items()
    }
    target = model.state_dict()
    layers = class_layers(cfg, len(classes), len(known))
    rest = {k: v for k, v in target.items() if k in layers}
    problems = mismatches(model, {**state, **rest})
    problems += [
        f'{key} has {tuple(state[key].shape) if key in state else "nothing"} '
        f'for {len(known)} classes, expected {shape}'
        for key, (shape, _) in layers.items()
        if key not in state or tuple(state[key].shape) != shape
    ]
    if problems:
        raise CheckpointMismatch(
            f'--from {filename} is of another network than this config:\n  '
            + '\n  '.join(problems)
        )
    shared = [name for name in classes if name in known]
    for key, (_, rows) in layers.items():
        # One-stage heads have all classes of an anchor in a block, two-stage
        # ones all rows of a class.
        by_anchor = rows if key.startswith('bbox_head.') else 1
        ours, theirs = (
            _transposed(each, by_anchor) for each in (target[key], state[key])
        )
        result = carry_over(theirs, ours, known, classes, rows)
        state[key] = _transposed(result, len(result) // by_anchor)
    model.load_state_dict({k: state[k] for k in target})
    new = [name for name in classes if name not in known]
    print_log(
        f'Started from {filename}: {len(target) - len(layers)} tensors as '
        f'they are; of the {len(layers)} of the class layers, those of '
        + (f'{len(shared)} classes ({shorten(shared)})' if shared else 'none')
        + (f'; new: {shorten(new)}' if new else ''),
        'current',
    )


def class_layers(cfg: Config, ours: int, theirs: int) -> dict:
    """Which entries of a model depend on its classes.

    Found by building it with one class more and looking what grows.

    Args:
        cfg: Its config.
        ours: Its number of classes.
        theirs: The checkpoint's.

    Returns:
        For each such entry the shape it has with ``theirs`` classes, and how
        many rows each class has.
    """
    shapes = [_shapes(cfg, count) for count in (ours, ours + 1, theirs)]
    return {
        key: (shapes[2][key], shapes[1][key][0] - shape[0])
        for key, shape in shapes[0].items()
        if shape != shapes[1][key]
    }


def _shapes(cfg: Config, num_classes: int) -> dict[str, tuple[int, ...]]:
    model_cfg = Config(dict(model=cfg.model.to_dict())).model
    for node in dicts_of(model_cfg):
        if 'num_classes' in node:
            node['num_classes'] = num_classes
    scope = cfg.get('default_scope') or 'mmdet'
    with (
        DefaultScope.overwrite_default_scope(scope),
        torch.device('meta'),
    ):
        model = MODELS.build(model_cfg)
    return {k: tuple(v.shape) for k, v in model.state_dict().items()}


def _transposed(layer: Tensor, blocks: int) -> Tensor:
    """Rows (blocks * n, ...) as (n * blocks, ...): the first of each first."""
    return layer.unflatten(0, (blocks, -1)).transpose(0, 1).flatten(0, 1)


def carry_over(
    theirs: Tensor,
    ours: Tensor,
    known: tuple[str, ...],
    classes: tuple[str, ...],
    rows: int,
) -> Tensor:
    """Put the rows of shared classes, and those of none, into a new layer.

    Args:
        theirs: (len(known) * rows + rest, ...), the rows of a class in a
            block, in the order of the labels, then those of the background.
        ours: (len(classes) * rows + rest, ...), as initialised.
        known: The classes of ``theirs``.
        classes: The classes of ``ours``.
        rows: Of each class.

    Returns:
        ``ours`` with what ``theirs`` knows.
    """
    result = ours.clone()
    theirs = theirs.to(ours)
    for label, name in enumerate(classes):
        if name in known:
            other = known.index(name)
            result[label * rows : (label + 1) * rows] = theirs[
                other * rows : (other + 1) * rows
            ]
    result[len(classes) * rows :] = theirs[len(known) * rows :]
    return result
