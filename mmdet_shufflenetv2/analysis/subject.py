"""A network, and how to run it on images.

N images, C channels, H x W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from mmdet.structures import DetDataSample
from torch import Tensor, nn


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
