"""What a detector with random weights is timed on.

So that post-processing has as much to do as behind a trained detector, class
scores are spread and shifted until `CANDIDATES` boxes per image pass the
score threshold, about one for each proposal.

Images are drawn, and come as JPEG files of the size most COCO pictures have.
"""

from pathlib import Path

import cv2
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..data.drawing import RandomSource
from ..data.scenes import SceneSpec, draw_scene

JPEG_SIZE = (640, 427)
JPEGS = 8
CANDIDATES = 1000
LOGIT_STD = 2.0
OBJECTS = 8


def make_samples(
    size: tuple[int, int], padded: tuple[int, int], batch: int, device: str
) -> list[DetDataSample]:
    """What goes with a batch of images: sizes, and `OBJECTS` boxes in each.

    Args:
        size: width and height of each image.
        padded: height and width of the batch.
        batch: images.
        device: of the boxes.
    """
    width, height = size
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(batch):
        corner = torch.rand(OBJECTS, 2, generator=generator) * 0.6
        side = 0.05 + torch.rand(OBJECTS, 2, generator=generator) * 0.35
        scale = torch.tensor([width, height, width, height])
        boxes = torch.cat([corner, corner + side], 1) * scale
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(height, width),
                ori_shape=(height, width),
                pad_shape=padded,
                batch_input_shape=padded,
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.arange(OBJECTS) % 2
        )
        samples.append(sample.to(device))
    return samples


def settle_scores(
    model: nn.Module, images: Tensor, samples: list[DetDataSample]
) -> None:
    """Let `CANDIDATES` boxes per image pass the score threshold.

    Args:
        model: its classifier's weights are changed in place.
        images: (N, 3, H, W).
        samples: one per image.

    Raises:
        RuntimeError: the scores of the network are not finite.
    """
    head = model.roi_head
    features = model.extract_feat(images)
    proposals = model.rpn_head.predict_by_feat(
        *model.rpn_head(features),
        batch_img_metas=[sample.metainfo for sample in samples],
        cfg=model.test_cfg.rpn,
    )
    rois = bbox2roi([p.bboxes for p in proposals])
    logits = head._bbox_forward(features, rois)['cls_score'].float()
    if not logits.isfinite().all():
        raise RuntimeError('the random network gives scores beyond float32')
    scale = LOGIT_STD / logits.std().clamp(min=1e-6)
    shift = background_shift(
        logits * scale, head.test_cfg.score_thr, CANDIDATES * len(images)
    )
    classifier = head.bbox_head.fc_cls
    classifier.weight.mul_(scale)
    classifier.bias.mul_(scale)
    classifier.bias[-1] += shift


def background_shift(
    logits: Tensor, threshold: float, candidates: int
) -> float:
    """What to add to the background's logit, so that fewer boxes pass.

    Args:
        logits: (K, classes + 1), the background last.
        threshold: a box passes for each class with a higher probability.
        candidates: how many may pass, at most.
    """
    low, high = -50.0, 50.0
    for _ in range(30):
        shift = (low + high) / 2
        shifted = logits.clone()
        shifted[:, -1] += shift
        passing = shifted.softmax(1)[:, :-1] > threshold
        if passing.sum() > candidates:
            low = shift
        else:
            high = shift
    return high


def draw_jpegs(folder: Path) -> list[Path]:
    """Write `JPEGS` drawn pictures into a folder."""
    width, height = JPEG_SIZE
    spec = SceneSpec(width=width, height=height, empty_rate=0.0)
    paths = []
    for index in range(JPEGS):
        path = folder / f'{index}.jpg'
        image = draw_scene(RandomSource(0, 0, index), spec).image
        if not cv2.imwrite(str(path), image[..., ::-1]):
            raise OSError(f'cannot write {path}')
        paths.append(path)
    return paths
