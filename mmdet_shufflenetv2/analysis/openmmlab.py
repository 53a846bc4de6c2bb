"""Networks of MMDetection, mmpretrain and this package, to be analysed.

They are named by a config of an OpenMMLab package, by a published name of
`backbones.zoo`, or as a backbone in a registry. Random weights are made fit
for timing: batch norms take their statistics from random images, so that maps
keep their size from layer to layer, and a detector's score threshold is set
to one that a usual number of boxes pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from ..backbones.base import StagedBackbone
from ..backbones.pretrained import load_pretrained
from ..backbones.zoo import NETWORKS, Classifier
from ..engine.early_log import quiet_log
from ..engine.run_config import (
    checkpoint_classes,
    dicts_of,
    load_config,
    without_pretrained,
)
from ..engine.run_data import set_classes
from ..engine.runner import load_fitting
from ..errors import UserError
from ..measure.memory import is_out_of_memory
from ..measure.networks import settle_norms
from .operations import tensors_of
from .twins import reason_of

# Boxes an image that pass the score threshold of random weights.
CANDIDATES = 1000
_HEADS = ('bbox_head', 'roi_head', 'rpn_head', 'mask_head')
_CONFIGS = ('.py', '.yaml', '.yml', '.json')


@dataclass
class Subject:
    """A network that can be run; ``size`` (H, W) of its usual images."""

    name: str
    model: nn.Module
    size: tuple[int, int] = (224, 224)
    # Why a detector is run without its post-processing.
    no_results: str | None = None

    @property
    def is_detector(self) -> bool:
        """Whether it has detections to make after its last layer."""
        return hasattr(self.model, 'extract_feat') and any(
            hasattr(self.model, name) for name in _HEADS
        )

    def run(self, model: nn.Module, inputs: tuple[Tensor]) -> object:
        """One pass of the network or a changed copy over (N, 3, H, W)."""
        (image,) = inputs
        if not hasattr(model, 'extract_feat'):
            return model(image)
        if not self.is_detector:
            return model(image, mode='tensor')
        sizes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
        meta = dict.fromkeys(sizes, tuple(image.shape[-2:]))
        meta |= dict(scale_factor=(1.0, 1.0), img_id=0)
        meta |= dict(flip=False, flip_direction=None)
        count = range(len(image))
        samples = [DetDataSample(metainfo=dict(meta)) for _ in count]
        mode = 'tensor' if self.no_results else 'predict'
        return model(image, samples, mode=mode)

    def features(self, model: nn.Module, image: Tensor) -> dict[str, Tensor]:
        """The maps of backbone and neck, by name."""
        backbone = getattr(model, 'backbone', model)
        maps = backbone(image)
        found = tensors_of(maps)
        info = getattr(backbone, 'feature_info', None) or ()
        names = [level['module'] for level in info]
        if len(names) != len(found):
            names = [f'level {i}' for i in range(len(found))]
        levels = dict(zip(names, found, strict=True))
        neck = getattr(model, 'neck', None)
        if self.is_detector and neck is not None:
            for index, each in enumerate(tensors_of(neck(maps))):
                levels[f'neck {index}'] = each
        return levels


def random_image(batch: int, size: tuple[int, int]) -> Tensor:
    """Normally distributed images (N, 3, H, W), the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, *size, generator=generator)


@quiet_log()
def load_subject(
    target: str,
    backbone_options: Mapping | None = None,
    cfg_options: Mapping | None = None,
    checkpoint: str | None = None,
) -> Subject:
    """Build a network; its weights are random unless a checkpoint is given.

    Nothing is downloaded: pretrained weights that a config asks for are left
    out, since times do not depend on them.

    Raises:
        UserError: nothing is found under that name, or it cannot be built.
    """
    is_config = target.endswith(_CONFIGS)
    if (cfg_options and not is_config) or (
        backbone_options and (is_config or target in NETWORKS)
    ):
        raise UserError(
            f'{target}: a config takes --cfg-options, the name of a backbone '
            '--backbone-options, a published network neither'
        )
    try:
        if is_config:
            subject = _from_config(target, cfg_options, checkpoint)
        elif target in NETWORKS:
            # With every level to look at.
            row = NETWORKS[target]
            levels = tuple(range(row.last_level + 1))
            init_default_scope('mmdet')
            backbone = MODELS.build(dict(row.config, out_indices=levels))
            size = (row.input_size, row.input_size)
            subject = Subject(target, Classifier(backbone), size)
        else:
            backbone = _from_registry(target, backbone_options or {})
            subject = Subject(target, backbone)
        subject.model.eval()
        if checkpoint and isinstance(subject.model, StagedBackbone):
            load_pretrained(subject.model, checkpoint)
        elif checkpoint:
            load_fitting(subject.model, checkpoint)
    except UserError:
        raise
    except Exception as error:
        # A class of another project may refuse its arguments, or miss a
        # library, in any way.
        raise UserError(f'{target} cannot be built: {_why(error)}') from error
    return subject


def _why(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f'it needs {error.name}, which is not installed'
    text = error.args[0] if isinstance(error, KeyError) else error
    return str(text).strip().partition('\n')[0]


def _from_config(
    path: str, options: Mapping | None, checkpoint: str | None
) -> Subject:
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
    return Subject(path, model, test_size(cfg))


def test_size(cfg: Config) -> tuple[int, int]:
    """(H, W) of a config's test images, at its widest, padded to 32."""
    sizes = [
        node.get('crop_size') or node.get('scale')
        for node in dicts_of(cfg.get('test_dataloader'))
        if node.get('type') in ('Resize', 'CenterCrop', 'LetterResize')
    ]
    last = next((size for size in reversed(sizes) if size), 224)
    width, height = (last, last) if isinstance(last, int) else last
    return tuple(-(-side // 32) * 32 for side in (height, width))


def _from_registry(name: str, options: Mapping) -> nn.Module:
    asked, _, bare = name.rpartition('.')
    known = set(NETWORKS)
    for scope in [asked] if asked else ['mmdet', 'mmpretrain']:
        try:
            import_module(f'{scope}.models')
            registry = import_module(f'{scope}.registry').MODELS
        except Exception as error:
            # One that was not asked for is in nobody's way.
            if asked:
                raise UserError(
                    f'{scope} cannot be imported: {_why(error)}'
                ) from error
            continue
        backbones = {
            name
            for name, cls in registry.module_dict.items()
            if 'backbones' in cls.__module__
        }
        if bare in backbones:
            init_default_scope(scope)
            return MODELS.build(dict(type=f'{scope}.{bare}', **options))
        known |= backbones
    near = get_close_matches(bare, sorted(known), n=5, cutoff=0.5)
    raise UserError(
        f'no config or backbone is called {name}: '
        + (f'did you mean {", ".join(near)}? Or ' if near else '')
        + 'give a config file (.py, .yaml or .json), a backbone such as '
        'ShuffleNetV2, or a published network such as shufflenet_v2_x1_0'
    )


def prepared(
    subject: Subject, image: Tensor, is_trained: bool
) -> tuple[list[str], dict[str, object]]:
    """Make a network fit for timing, and tell what to say of it.

    Some heads of MMDetection cannot predict, and are run up to there.

    Returns:
        lines for the report, and the same for programs.

    Raises:
        UserError: it does not run; says why.
    """

    def once() -> object:
        with torch.no_grad():
            return subject.run(subject.model, (image,))

    try:
        once()
    except Exception as error:
        shape = ' x '.join(map(str, (len(image), *image.shape[-2:])))
        if is_out_of_memory(error):
            raise
        try:
            subject.no_results = subject.is_detector and reason_of(error)
            once()
        except Exception:
            raise UserError(
                f'{subject.name} at {shape} cannot run: {reason_of(error)}'
            ) from error
    if not is_trained:
        settle(subject, tuple(image.shape[-2:]))
    facts = dict(no_predictions=subject.no_results)
    if not subject.is_detector:
        return [], facts
    if subject.no_results:
        why = subject.no_results
        return [f'run without predictions, which fail: {why}'], facts
    notes, threshold = [], None
    if not is_trained:
        threshold = let_pass(subject.model, once, CANDIDATES * len(image))
    if threshold is not None:
        notes.append(
            f'random weights: the score threshold was set to '
            f'{threshold:.3g}, which {CANDIDATES} boxes an image pass; '
            '--checkpoint FILE shows what yours do'
        )
    found = [len(getattr(each, 'pred_instances', ())) for each in once()]
    facts |= dict(score_threshold_set=threshold, detections=found)
    return [*notes, f'{sum(found)} detections'], facts


def settle(subject: Subject, size: tuple[int, int]) -> None:
    """Let maps of random weights have the size of trained ones."""
    model = subject.model
    for norm in model.modules():
        # Residual branches are made to begin at zero, and would hide
        # whatever they see.
        is_affine = isinstance(norm, _BatchNorm) and norm.affine
        if is_affine and not norm.weight.any():
            nn.init.ones_(norm.weight)
    # Two images, since a map of one pixel has no variance; as large as asked
    # for, since SSD or a transformer takes no other size.
    images = random_image(2, size).to(next(model.parameters()))
    settle_norms(model, images, lambda x: subject.features(model, x))
    model.eval()


def let_pass(
    model: nn.Module, run: Callable[[], object], candidates: int
) -> float | None:
    """Set a detector's score threshold so that so many scores are above it.

    What suppression costs depends on how many boxes pass: of random weights
    all do, or none.

    Returns:
        the threshold; None if no score is compared with one.
    """
    settings = [
        cfg
        for module in model.modules()
        if isinstance(cfg := getattr(module, 'test_cfg', None), dict)
        and 'score_thr' in cfg
    ]
    scores = _Scores({float(cfg['score_thr']) for cfg in settings})
    with scores:
        run()
    if not scores.found:
        return None
    best = torch.cat(scores.found).sort(descending=True).values
    threshold = best[min(candidates, len(best) - 1)].item()
    for cfg in settings:
        cfg['score_thr'] = threshold
    return threshold


class _Scores(TorchDispatchMode):
    """Collects what is compared with a threshold."""

    def __init__(self, thresholds: set[float]):
        super().__init__()
        self._thresholds = thresholds
        self.found: list[Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name in ('aten::gt', 'aten::ge') and args[1] in self._thresholds:
            scores = args[0].flatten()
            # Sides of boxes are compared with 0, too.
            is_share = ((scores >= 0) & (scores <= 1)).all()
            if scores.is_floating_point() and is_share:
                self.found.append(scores.float())
        return func(*args, **(kwargs or {}))
