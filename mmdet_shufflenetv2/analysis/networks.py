"""The network to be analysed, from what a user names it by, and its runs.

The name is that of a config of MMDetection, mmpretrain or another OpenMMLab
package, a published one of `mmdet_shufflenetv2.backbones.zoo`, or a
backbone's in a registry. N images, C channels, H x W pixels.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from ..backbones.base import StagedBackbone
from ..backbones.pretrained import load_pretrained
from ..backbones.zoo import NETWORKS, Classifier
from ..engine.checkpoint_meta import checkpoint_classes
from ..engine.run_config import (
    UsageError,
    dicts_of,
    load_config,
    without_pretrained,
)
from ..engine.run_data import set_classes
from ..engine.runner import load_fitting


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
            hasattr(self.model, name)
            for name in ('bbox_head', 'roi_head', 'rpn_head', 'mask_head')
        )

    def run(self, image: Tensor) -> object:
        """One forward pass, of a detector with its post-processing.

        Args:
            image: (N, 3, H, W).
        """
        if self.is_detector:
            mode = 'tensor' if self.no_results else 'predict'
            return self.model(image, _samples(image), mode=mode)
        if hasattr(self.model, 'extract_feat'):
            return self.model(image, mode='tensor')
        return self.model(image)

    def features(self, image: Tensor) -> dict[str, Tensor]:
        """The maps of backbone and neck, by name.

        Args:
            image: (N, 3, H, W).
        """
        backbone = getattr(self.model, 'backbone', self.model)
        maps = backbone(image)
        levels = _named(getattr(backbone, 'feature_info', None), maps)
        neck = getattr(self.model, 'neck', None)
        if self.is_detector and neck is not None:
            maps = neck(maps)
            levels |= {f'neck {i}': m for i, m in enumerate(_maps(maps))}
        return levels


def _maps(value: object) -> list[Tensor]:
    values = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Tensor):
        values = [value]
    return [each for each in values if isinstance(each, Tensor)]


def _named(info: Sequence[dict] | None, maps: object) -> dict[str, Tensor]:
    maps = _maps(maps)
    if info and len(info) == len(maps):
        names = [level['module'] for level in info]
    else:
        names = [f'level {i}' for i in range(len(maps))]
    return dict(zip(names, maps, strict=True))


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


def random_image(
    batch: int, size: tuple[int, int], device: str = 'cpu'
) -> Tensor:
    """Normally distributed images (N, 3, H, W), the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, *size, generator=generator).to(device)


# Where backbones are looked for, after this package's own.
SCOPES = ('mmdet', 'mmpretrain')
# What constructors raise about arguments they do not like.
_BUILD_ERRORS = (
    *(TypeError, ValueError, KeyError, AttributeError),
    *(AssertionError, ImportError, NotImplementedError),
)


def load_subject(
    target: str,
    backbone_options: Mapping | None = None,
    cfg_options: Mapping | None = None,
    checkpoint: str | None = None,
) -> Subject:
    """Build a network; its weights are random unless a checkpoint is given.

    Nothing is downloaded: pretrained weights that a config asks for are left
    out, since they change no time.

    Args:
        target: a config file, a published name or a backbone's name.
        backbone_options: arguments of a backbone.
        cfg_options: values that override a config's.
        checkpoint: file of trained weights.

    Raises:
        UsageError: nothing is found under that name, or it cannot be built.
    """
    is_config = target.endswith(('.py', '.yaml', '.yml', '.json'))
    if is_config and backbone_options:
        raise UsageError(
            '--backbone-options: allowed with the name of a backbone; for '
            'a config use --cfg-options model.backbone.KEY=VALUE'
        )
    if not is_config and cfg_options:
        raise UsageError(
            '--cfg-options: allowed with a config; for a backbone use '
            '--backbone-options KEY=VALUE'
        )
    # A network without checkpoint would list every parameter it sets.
    MMLogger.get_instance('analyze', log_level='WARNING')
    logging.getLogger('mmengine').setLevel(logging.WARNING)
    try:
        if is_config:
            subject = _from_config(target, cfg_options, checkpoint)
        elif target in NETWORKS:
            _refuse(backbone_options, target)
            subject = _published(target)
        else:
            subject = _from_registry(target, dict(backbone_options or {}))
    except UsageError:
        raise
    except _BUILD_ERRORS as error:
        raise UsageError(f'{target} cannot be built: {error}') from error
    subject.model.eval()
    if checkpoint:
        _load(subject.model, checkpoint)
    return subject


def _published(name: str) -> Subject:
    """The classification network, with every level to look at."""
    init_default_scope('mmdet')
    row = NETWORKS[name]
    config = dict(row.config, out_indices=tuple(range(row.last_level + 1)))
    side = row.input_size
    return Subject(name, Classifier(MODELS.build(config)), (side, side))


def _refuse(options: Mapping | None, target: str) -> None:
    if options:
        raise UsageError(
            f'--backbone-options: {target} is a published network and takes '
            f'none; name its type instead, '
            f'{NETWORKS[target].config["type"]}'
        )


def _load(model: nn.Module, checkpoint: str) -> None:
    if isinstance(model, StagedBackbone):
        try:
            load_pretrained(model, checkpoint)
        except ValueError as error:
            raise UsageError(str(error)) from error
    else:
        load_fitting(model, checkpoint)


def _from_config(
    path: str, options: Mapping | None, checkpoint: str | None
) -> Subject:
    cfg = load_config(path, options)
    if not isinstance(cfg.get('model'), dict):
        raise UsageError(f'{path} has no model to analyse')
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
    sizes = [size for size in sizes if size]
    if not sizes:
        return Subject.size
    last = sizes[-1]
    width, height = (last, last) if isinstance(last, int) else last
    return tuple(-(-side // 32) * 32 for side in (height, width))


def _from_registry(name: str, options: dict) -> Subject:
    scope, _, bare = name.rpartition('.')
    known = _backbones()
    for candidate in [scope] if scope else SCOPES:
        if bare in known.get(candidate, {}):
            init_default_scope(candidate)
            config = dict(type=f'{candidate}.{bare}', **options)
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
    raise UsageError(f'no config and no backbone is called {name}: {choices}')


def _backbones() -> dict[str, dict[str, type]]:
    """{scope: {name: class}} of all backbones that are installed."""
    found = {}
    for scope in SCOPES:
        if find_spec(scope) is None:
            continue
        registry = import_module(f'{scope}.registry').MODELS
        import_module(f'{scope}.models')
        found[scope] = {
            name: cls
            for name, cls in registry.module_dict.items()
            if 'backbones' in cls.__module__
        }
    return found
