"""Networks of MMDetection, mmpretrain and this package, to be analysed.

They are named by a config of an OpenMMLab package, by a published name of
`mmdet_shufflenetv2.backbones.zoo`, or as a backbone in a registry. N images,
C channels, H x W pixels.

Random weights are made fit for timing: batch norms take their statistics from
random images, so that maps keep their size from layer to layer, and a
detector's score threshold is set to one that a usual number of boxes pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec

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
from ..engine.checkpoint_meta import checkpoint_classes
from ..engine.early_log import quiet_log
from ..engine.run_config import (
    dicts_of,
    load_config,
    without_pretrained,
)
from ..engine.run_data import set_classes
from ..engine.runner import load_fitting
from ..errors import UserError
from ..measure.memory import is_out_of_memory
from ..measure.networks import settle_norms
from .analysis import reason_of

# Boxes an image that pass the score threshold of random weights.
CANDIDATES = 1000
# Where backbones are looked for, this package's own among them.
SCOPES = ('mmdet', 'mmpretrain')
_HEADS = ('bbox_head', 'roi_head', 'rpn_head', 'mask_head')


@dataclass(frozen=True)
class Subject:
    """A network that can be run.

    Attributes:
        name: what the user called it.
        model: in evaluation mode.
        size: (H, W) of the images it is usually given.
        no_results: why a detector is run without its post-processing; None
            if it is not.
    """

    name: str
    model: nn.Module
    size: tuple[int, int] = (224, 224)
    no_results: str | None = None

    @property
    def is_detector(self) -> bool:
        """Whether it has detections to make after its last layer."""
        return hasattr(self.model, 'extract_feat') and any(
            hasattr(self.model, name) for name in _HEADS
        )

    def run(self, model: nn.Module, inputs: tuple[Tensor]) -> object:
        """One pass, of a detector with its post-processing.

        Args:
            model: the network, or a changed copy.
            inputs: the images alone, (N, 3, H, W).
        """
        (image,) = inputs
        if self.is_detector:
            mode = 'tensor' if self.no_results else 'predict'
            return model(image, _samples(image), mode=mode)
        if hasattr(model, 'extract_feat'):
            return model(image, mode='tensor')
        return model(image)

    def features(self, model: nn.Module, image: Tensor) -> dict[str, Tensor]:
        """The maps of backbone and neck, by name.

        Args:
            model: the network, or a changed copy.
            image: (N, 3, H, W).
        """
        backbone = getattr(model, 'backbone', model)
        maps = backbone(image)
        found = _maps(maps)
        info = getattr(backbone, 'feature_info', None) or ()
        names = [level['module'] for level in info]
        if len(names) != len(found):
            names = [f'level {i}' for i in range(len(found))]
        levels = dict(zip(names, found, strict=True))
        neck = getattr(model, 'neck', None)
        if self.is_detector and neck is not None:
            maps = neck(maps)
            levels |= {f'neck {i}': m for i, m in enumerate(_maps(maps))}
        return levels


def _maps(value: object) -> list[Tensor]:
    values = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Tensor):
        values = [value]
    return [each for each in values if isinstance(each, Tensor)]


def _samples(image: Tensor) -> list[DetDataSample]:
    size = tuple(image.shape[-2:])
    meta = dict(
        img_shape=size,
        ori_shape=size,
        pad_shape=size,
        batch_input_shape=size,
        scale_factor=(1.0, 1.0),
        img_id=0,
        flip=False,
        flip_direction=None,
    )
    return [DetDataSample(metainfo=dict(meta)) for _ in range(len(image))]


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

    Args:
        target: a config file, a published name or a backbone's name.
        backbone_options: arguments of a backbone.
        cfg_options: values that override a config's.
        checkpoint: file of trained weights.

    Raises:
        UserError: nothing is found under that name, or it cannot be built.
    """
    is_config = target.endswith(('.py', '.yaml', '.yml', '.json'))
    if is_config and backbone_options:
        raise UserError(
            '--backbone-options: for the name of a backbone; for a config '
            'use --cfg-options model.backbone.KEY=VALUE'
        )
    if not is_config and cfg_options:
        raise UserError(
            '--cfg-options: for a config; for a backbone use '
            '--backbone-options KEY=VALUE'
        )
    if target in NETWORKS and backbone_options:
        raise UserError(
            f'--backbone-options: {target} is a published network and takes '
            f'none; name its type instead, {NETWORKS[target].config["type"]}'
        )
    try:
        if is_config:
            subject = _from_config(target, cfg_options, checkpoint)
        elif target in NETWORKS:
            subject = _published(target)
        else:
            subject = _from_registry(target, dict(backbone_options or {}))
    except UserError:
        raise
    except Exception as error:
        # A class of another project may refuse its arguments, or miss a
        # library, in any way.
        raise UserError(f'{target} cannot be built: {_why(error)}') from error
    subject.model.eval()
    if checkpoint:
        _load(subject.model, checkpoint)
    return subject


def _why(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f'it needs {error.name}, which is not installed'
    text = error.args[0] if isinstance(error, KeyError) else error
    return str(text).strip().partition('\n')[0]


def _published(name: str) -> Subject:
    """The classification network, with every level to look at."""
    init_default_scope('mmdet')
    row = NETWORKS[name]
    config = dict(row.config, out_indices=tuple(range(row.last_level + 1)))
    side = row.input_size
    return Subject(name, Classifier(MODELS.build(config)), (side, side))


def _load(model: nn.Module, checkpoint: str) -> None:
    if isinstance(model, StagedBackbone):
        try:
            load_pretrained(model, checkpoint)
        except ValueError as error:
            raise UserError(str(error)) from error
    else:
        load_fitting(model, checkpoint)


def _from_config(
    path: str, options: Mapping | None, checkpoint: str | None
) -> Subject:
    cfg = load_config(path, options)
    without_pretrained(cfg)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if checkpoint:
        classes = checkpoint_classes(
            CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
        )
        if classes:
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
    last = next((size for size in reversed(sizes) if size), None)
    if last is None:
        return Subject.size
    width, height = (last, last) if isinstance(last, int) else last
    return tuple(-(-side // 32) * 32 for side in (height, width))


def _from_registry(name: str, options: dict) -> Subject:
    asked, _, bare = name.rpartition('.')
    known = {
        scope: _backbones_of(scope, is_asked=scope == asked)
        for scope in ([asked] if asked else SCOPES)
    }
    for scope, names in known.items():
        if bare in names:
            init_default_scope(scope)
            config = dict(type=f'{scope}.{bare}', **options)
            return Subject(name, MODELS.build(config))
    names = sorted({*NETWORKS, *(n for each in known.values() for n in each)})
    folded = {each.lower(): each for each in reversed(names)}
    near = get_close_matches(bare.lower(), folded, n=5, cutoff=0.5)
    if near:
        choices = f'did you mean {", ".join(folded[n] for n in near)}?'
    else:
        # The first of each type; all of them would fill the screen.
        first = {row.config['type']: n for n, row in [*NETWORKS.items()][::-1]}
        choices = (
            'give a config file (.py, .yaml or .json), a backbone such as '
            'ShuffleNetV2, or a published network such as '
            f'{", ".join([*first.values()][::-1])}'
        )
    raise UserError(f'no config or backbone is called {name}: {choices}')


def _backbones_of(scope: str, is_asked: bool) -> set[str]:
    """Names of the backbones of a package.

    Raises:
        UserError: it was asked for and cannot be imported.
    """
    try:
        if find_spec(scope) is None:
            raise ModuleNotFoundError(name=scope)
        registry = import_module(f'{scope}.registry').MODELS
        import_module(f'{scope}.models')
    except Exception as error:
        if not is_asked:
            return set()
        raise UserError(
            f'{scope} cannot be imported: {_why(error)}'
        ) from error
    return {
        name
        for name, cls in registry.module_dict.items()
        if 'backbones' in cls.__module__
    }


def tried(subject: Subject, image: Tensor) -> Subject:
    """The network after it has run once, without predictions if need be.

    Some heads of MMDetection cannot predict, but can be run up to there.

    Raises:
        UserError: it does not run; says why.
    """
    error = _error_of(subject, image)
    if error is None:
        return subject
    if subject.is_detector:
        without = replace(subject, no_results=reason_of(error))
        if _error_of(without, image) is None:
            return without
    batch, _, height, width = image.shape
    raise UserError(
        f'{subject.name} at {batch} x {height} x {width} cannot run: '
        f'{reason_of(error)}'
    ) from error


def _error_of(subject: Subject, image: Tensor) -> Exception | None:
    try:
        with torch.no_grad():
            subject.run(subject.model, (image,))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return error
    return None


def settle(subject: Subject, size: tuple[int, int]) -> None:
    """Let maps of random weights have the size of trained ones."""
    for norm in subject.model.modules():
        # Residual branches are made to begin at zero, and would hide
        # whatever they see.
        is_affine = isinstance(norm, _BatchNorm) and norm.affine
        if is_affine and not norm.weight.any():
            nn.init.ones_(norm.weight)

    # Two images, since a map of one pixel has no variance; as large as asked
    # for, since SSD or a transformer takes no other size.
    weight = next(subject.model.parameters())
    settle_norms(
        subject.model,
        random_image(2, size).to(weight),
        lambda image: subject.features(subject.model, image),
    )
    subject.model.eval()


def prepared(
    subject: Subject, image: Tensor, is_trained: bool
) -> tuple[Subject, list[str], dict[str, object]]:
    """A network that can be timed, and what to say of it.

    Args:
        subject: on its device.
        image: to run it on.
        is_trained: whether the weights are.

    Returns:
        the network, lines for the report, and the same for programs.
    """
    subject = tried(subject, image)
    if not is_trained:
        settle(subject, tuple(image.shape[-2:]))
    notes, facts = [], dict(no_predictions=subject.no_results)
    if subject.no_results:
        notes.append(
            f'run without predictions, which fail: {subject.no_results}'
        )
    elif subject.is_detector:
        once = lambda: subject.run(subject.model, (image,))  # noqa: E731
        threshold = None
        if not is_trained:
            threshold = let_pass(subject.model, once, CANDIDATES * len(image))
        if threshold is not None:
            notes.append(
                f'random weights: the score threshold was set to '
                f'{threshold:.3g}, which {CANDIDATES} boxes an image pass; '
                '--checkpoint FILE shows what yours do'
            )
        with torch.no_grad():
            found = [getattr(r, 'pred_instances', ()) for r in once()]
        facts |= dict(
            score_threshold_set=threshold, detections=[*map(len, found)]
        )
        notes.append(f'{sum(map(len, found))} detections')
    return subject, notes, facts


def let_pass(
    model: nn.Module, run: Callable[[], object], candidates: int
) -> float | None:
    """Set a detector's score threshold so that so many scores are above it.

    What suppression costs depends on how many boxes pass: of random weights
    all do, or none.

    Args:
        model: its heads' test settings are changed.
        run: one pass.
        candidates: how many, of all images together.

    Returns:
        the threshold; None if no score is compared with one.
    """
    settings = [
        cfg
        for module in model.modules()
        if isinstance(cfg := getattr(module, 'test_cfg', None), dict)
        and 'score_thr' in cfg
    ]
    scores = _Scores({float(cfg['score_thr']) for cfg in settings}, candidates)
    with torch.no_grad(), scores:
        run()
    if not scores.best:
        return None
    best = torch.cat(scores.best).sort(descending=True).values
    threshold = best[min(candidates, len(best) - 1)].item()
    for cfg in settings:
        cfg['score_thr'] = threshold
    return threshold


class _Scores(TorchDispatchMode):
    """Collects the best of what is compared with a threshold."""

    def __init__(self, values: set[float], candidates: int):
        super().__init__()
        self._values, self._most = values, candidates + 1
        self.best: list[Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name in ('aten::gt', 'aten::ge') and args[1] in self._values:
            scores = args[0].flatten()
            is_share = (scores >= 0) & (scores <= 1)
            # Sides of boxes are compared with 0, too.
            if scores.is_floating_point() and is_share.all():
                most = min(self._most, len(scores))
                self.best.append(scores.float().topk(most).values)
        return func(*args, **(kwargs or {}))
