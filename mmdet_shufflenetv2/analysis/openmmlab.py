"""Build networks of MMDetection, mmpretrain and this package for analysis.

A network is named by a config of an OpenMMLab package, by a published name in
`backbones.zoo`, or by a registered backbone. Random weights are prepared for
timing: batch norms get statistics from random images, so that maps keep their
magnitude from layer to layer, and a detector's score threshold is set so that
a typical number of boxes pass it.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from importlib import import_module

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from ..backbones.base import StagedBackbone
from ..backbones.pretrained import load_pretrained
from ..backbones.zoo import NETWORKS, Classifier
from ..deploy.export import samples_of
from ..engine.early_log import quiet_log
from ..engine.run_config import (
    checkpoint_classes,
    dicts_of,
    load_config,
    without_pretrained,
)
from ..engine.run_data import set_classes
from ..engine.weights import load_fitting
from ..errors import UserError
from ..measure.memory import is_out_of_memory
from ..measure.networks import settle_norms
from .operations import tensors_of
from .twins import reason_of

# Boxes per image that pass the score threshold with random weights.
CANDIDATES = 1000


def run(model: nn.Module, inputs: tuple[Tensor]) -> object:
    """Run images (N, 3, H, W) through a network; detectors give detections."""
    (image,) = inputs
    if isinstance(model, BaseDetector):
        samples = samples_of([tuple(image.shape[-2:])] * len(image))
        return model(image, samples, mode='predict')
    if isinstance(model, BaseModel):
        return model(image, mode='tensor')
    return model(image)


def features(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """The maps of the backbone and of a detector's neck, by name."""
    backbone = getattr(model, 'backbone', model)
    maps = backbone(image)
    found = tensors_of(maps)
    info = getattr(backbone, 'feature_info', None) or ()
    names = [level['module'] for level in info]
    if len(names) != len(found):
        names = [f'level {i}' for i in range(len(found))]
    levels = dict(zip(names, found, strict=True))
    if isinstance(model, BaseDetector) and model.with_neck:
        for index, each in enumerate(tensors_of(model.neck(maps))):
            levels[f'neck {index}'] = each
    return levels


def random_image(batch: int, size: tuple[int, int]) -> Tensor:
    """Normally distributed images (N, 3, H, W), the same for each call."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, *size, generator=generator)


@quiet_log()
def load(
    target: str,
    backbone_options: Mapping | None = None,
    cfg_options: Mapping | None = None,
    checkpoint: str | None = None,
) -> tuple[nn.Module, tuple[int, int]]:
    """Build a network, with random weights unless a checkpoint is given.

    Nothing is downloaded: pretrained weights named in a config are ignored,
    because times do not depend on them.

    Returns:
        the network, and (H, W) of its usual images.

    Raises:
        UserError: the name is unknown, or the network cannot be built.
    """
    is_config = target.endswith(('.py', '.yaml', '.yml', '.json'))
    if (cfg_options and not is_config) or (
        backbone_options and (is_config or target in NETWORKS)
    ):
        raise UserError(
            f'{target}: --cfg-options expects a config, --backbone-options a '
            'registered backbone; a published network takes neither'
        )
    size = 224, 224
    try:
        if is_config:
            model, size = _from_config(target, cfg_options, checkpoint)
        elif target in NETWORKS:
            # Return the maps of all levels.
            row = NETWORKS[target]
            levels = tuple(range(row.last_level + 1))
            init_default_scope('mmdet')
            backbone = MODELS.build(dict(row.config, out_indices=levels))
            model, size = Classifier(backbone), (row.input_size,) * 2
        else:
            model = _from_registry(target, backbone_options or {})
        model.eval()
        if checkpoint and isinstance(model, StagedBackbone):
            load_pretrained(model, checkpoint)
        elif checkpoint:
            load_fitting(model, checkpoint)
    except UserError:
        raise
    except Exception as error:
        # Classes of other projects may raise any exception.
        why = reason_of(error)
        raise UserError(f'{target} cannot be built: {why}') from error
    return model, size


def _from_config(
    path: str, options: Mapping | None, checkpoint: str | None
) -> tuple[nn.Module, tuple[int, int]]:
    cfg = load_config(path, options)
    without_pretrained(cfg)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if checkpoint:
        saved = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
        if classes := checkpoint_classes(saved):
            set_classes(cfg, classes)
    model = MODELS.build(cfg.model)
    if hasattr(model, 'init_weights'):
        model.init_weights()
    return model, test_size(cfg)


def test_size(cfg: Config) -> tuple[int, int]:
    """Largest (H, W) of a config's test images, padded to a multiple of 32."""
    size = 224
    for node in dicts_of(cfg.get('test_dataloader')):
        if node.get('type') in ('Resize', 'CenterCrop', 'LetterResize'):
            size = node.get('crop_size') or node.get('scale') or size
    width, height = (size, size) if isinstance(size, int) else size
    return tuple(-(-side // 32) * 32 for side in (height, width))


def _from_registry(name: str, options: Mapping) -> nn.Module:
    scope = 'mmpretrain' if name.startswith('mmpretrain.') else 'mmdet'
    import_module(f'{scope}.models')
    known = import_module(f'{scope}.registry').MODELS.module_dict
    if name.removeprefix(f'{scope}.') in known:
        init_default_scope(scope)
        return MODELS.build(dict(type=name, **options))
    near = get_close_matches(name, [*NETWORKS, *known], n=5, cutoff=0.7)
    raise UserError(
        f'unknown network {name}: expected a config file (.py, .yaml or '
        '.json), a backbone such as ShuffleNetV2 or mmpretrain.ResNet, or a '
        'published network such as shufflenet_v2_x1_0'
        + (f'; did you mean {", ".join(near)}?' if near else '')
        + '; from Python, mmdet_shufflenetv2.analysis.analyze takes any model'
    )


def prepare(
    model: nn.Module, image: Tensor, name: str, is_trained: bool
) -> list[str]:
    """Prepare a network for timing; returns notes for the report.

    Raises:
        UserError: the network does not run on the image.
    """
    once = torch.no_grad()(partial(run, model, (image,)))
    try:
        once()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        shape = ' x '.join(map(str, (len(image), *image.shape[-2:])))
        raise UserError(
            f'{name} fails at {shape}: {reason_of(error)}'
        ) from error
    if not is_trained:
        settle(model, tuple(image.shape[-2:]))
    if not isinstance(model, BaseDetector):
        return []
    notes = []
    if not is_trained:
        notes = let_pass(model, once, CANDIDATES * len(image))
    found = sum(len(getattr(e, 'pred_instances', ())) for e in once())
    return [*notes, f'{found} detections']


def settle(model: nn.Module, size: tuple[int, int]) -> None:
    """Give maps of random weights the magnitude of trained ones."""
    for norm in model.modules():
        # Zero-initialised residual branches would hide their receptive field.
        is_affine = isinstance(norm, _BatchNorm) and norm.affine
        if is_affine and not norm.weight.any():
            nn.init.ones_(norm.weight)
    # Two images, because a map of one pixel has no variance; at full size,
    # because SSD and transformers accept no other.
    images = random_image(2, size).to(next(model.parameters()))
    settle_norms(model, images, partial(features, model))
    model.eval()


def let_pass(
    model: nn.Module, run: Callable[[], object], candidates: int
) -> list[str]:
    """Set a detector's score threshold so that ``candidates`` scores pass.

    The cost of NMS depends on how many boxes pass the threshold. With random
    weights, either all boxes pass or none.

    Returns:
        a note on the threshold, if scores are compared with any.
    """
    configs = [getattr(m, 'test_cfg', None) for m in model.modules()]
    settings = [c for c in configs if isinstance(c, dict) and 'score_thr' in c]
    with _Scores({float(cfg['score_thr']) for cfg in settings}) as scores:
        run()
    if not scores.found:
        return []
    best = torch.cat(scores.found).sort(descending=True).values
    threshold = best[min(candidates, len(best) - 1)].item()
    for cfg in settings:
        cfg['score_thr'] = threshold
    return [
        f'random weights: the score threshold was set to {threshold:.3g}, so '
        f'that {CANDIDATES} boxes per image pass; use --checkpoint FILE for '
        'trained weights'
    ]


class _Scores(TorchDispatchMode):
    """Collects the scores that are compared with a threshold."""

    def __init__(self, thresholds: set[float]):
        super().__init__()
        self._thresholds = thresholds
        self.found: list[Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name in ('aten::gt', 'aten::ge') and args[1] in self._thresholds:
            scores = args[0].flatten()
            # Side lengths of boxes may be compared with 0, too.
            in_range = ((scores >= 0) & (scores <= 1)).all()
            if scores.is_floating_point() and in_range:
                self.found.append(scores.float())
        return func(*args, **(kwargs or {}))
