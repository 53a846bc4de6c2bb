"""A detector as one graph with fixed shapes, which any runtime can run.

No shape depends on values: the numbers of proposals and of detections are
fixed, and missing ones are padded and masked. `bin_align` and `nms_mask` are
custom operators that ``formats.py`` translates to ONNX's RoiAlign and
NonMaxSuppression. A mask of fixed shape replaces the list of boxes that
NonMaxSuppression returns.

Shapes: N images of H x W pixels, A anchors per cell of an h x w map, K
proposals, C classes, D detections. Boxes are x1, y1, x2, y2 in pixels.
"""

import math

import torch
import torchvision
from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import (
    DeltaXYWHBBoxCoder,
    delta2bbox,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from ..detection import LightHeadNeck, RFCNNeck, ThunderNetNeck, soft_voting
from ..errors import UserError
from ..ops import PSRoIAlign, PSRoIPool
from .folding import Folded

# How many candidates of all classes enter the final NMS. A lower-ranked one
# could be among 100 detections only if over 1900 of these were suppressed.
CANDIDATES = 2000


@torch.library.custom_op('mmdet_shufflenetv2::nms_mask', mutates_args=())
def nms_mask(
    boxes: Tensor, scores: Tensor, iou_threshold: float, most: int
) -> Tensor:
    """Non-maximum suppression of boxes (N, n, 4) with scores (N, n).

    Returns a mask (N, n) that is 1 for the ``most`` best boxes kept. Negative
    scores are padding.
    """
    mask = torch.zeros_like(scores)
    for row, box, score in zip(mask, boxes, scores, strict=True):
        valid = (score >= 0).nonzero().squeeze(1)
        kept = torchvision.ops.nms(box[valid], score[valid], iou_threshold)
        row[valid[kept[:most]]] = 1
    return mask


@nms_mask.register_fake
def _(boxes, scores, iou_threshold, most):
    return torch.empty_like(scores)


@torch.library.custom_op('mmdet_shufflenetv2::bin_align', mutates_args=())
def bin_align(
    planes: Tensor, boxes: Tensor, index: Tensor, side: int, samples: int
) -> Tensor:
    """RoI align of boxes (n, 4), each from ``planes[index]`` (C, h, w).

    Boxes are in cells, with values at the cells' centres. Returns the means
    of samples (n, C, side, side).
    """
    boxes = torch.cat([index[:, None].to(boxes), boxes], 1)
    return torchvision.ops.roi_align(planes, boxes, side, 1, samples, True)


@bin_align.register_fake
def _(planes, boxes, index, side, samples):
    return planes.new_empty(len(boxes), planes.size(1), side, side)


class DetectorGraph(nn.Module):
    """The exportable network from an image to final detections.

    Args:
        detector: A two-stage detector of this project in evaluation mode. It
            is modified: made contiguous, with ``channels_last`` switched off.
        proposals: K; the config's number by default.
        dynamic: Leave height and width free, in multiples of 32.

    Raises:
        UserError: A part of the detector is not supported.
    """

    def __init__(
        self,
        detector: nn.Module,
        proposals: int | None = None,
        dynamic: bool = False,
    ):
        super().__init__()
        require_known(detector)
        # Not registered as a submodule, as only its folded copy is exported.
        self.__dict__['detector'] = detector.to(
            memory_format=torch.contiguous_format
        )
        if hasattr(detector.backbone, 'channels_last'):
            detector.backbone.channels_last = False
        self.dynamic = dynamic
        rpn, rcnn = detector.test_cfg.rpn, detector.test_cfg.rcnn
        self.proposals = proposals or rpn.max_per_img
        self.detections = rcnn.max_per_img if rcnn.max_per_img > 0 else 300
        self.layer = detector.roi_head.bbox_roi_extractor.roi_layers[0]
        # `align_bins` expects the map's channels bin by bin.
        count = detector.neck.out_channels
        self.map_order = list(range(count))
        self.values = count // math.prod(_pair(self.layer.output_size))
        if isinstance(self.layer, PSRoIAlign):
            by_bin = torch.arange(count).view(self.values, -1).t()
            self.map_order = by_bin.flatten().tolist()
            # Blocked kernels of ONNX Runtime also read this neck's map; they
            # need a multiple of 4 channels.
            if isinstance(detector.neck, ThunderNetNeck):
                while len(self.map_order) % 4:
                    self.map_order += [-1] * self.values
        self.folded = Folded(detector, self.map_order)
        self.head = detector.roi_head.bbox_head
        # A preprocessor that does not normalise has no mean and std.
        source = detector.data_preprocessor
        channels = torch.zeros(1, 3, 1, 1)
        mean = getattr(source, 'mean', channels).view(1, -1, 1, 1)
        std = getattr(source, 'std', channels + 1).view(1, -1, 1, 1)
        self.register_buffer('mean', mean)
        self.register_buffer('scale', 1 / std)

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """Detect objects in a batch of images.

        Args:
            image: (N, H, W, 3) uint8, padded on the right and below.
            size: (N, 2) float, height and width without the padding.

        Returns:
            Boxes (N, D, 4), scores (N, D) from best to worst, labels (N, D),
            the number of detections (N,), and the map that RoIs are pooled
            from. Padding rows are zeros with the label -1.
        """
        roi_map, *rpn = self.folded(self.normalized(image, size))
        rois, is_roi = self.propose(*rpn, size)
        scores, deltas = self.classify(roi_map, rois)
        return *self.select(rois, is_roi, scores, deltas, size), roi_map

    def normalized(self, image: Tensor, size: Tensor) -> Tensor:
        """Normalise images and pad them as in training."""
        # Without `contiguous`, all layers would get channels-last maps, and
        # the file a Transpose for each concatenation.
        x = image.permute(0, 3, 1, 2).contiguous().float() - self.mean
        height, width = (
            (torch.arange(n, device=x.device) < limit[:, None]).float()
            for n, limit in zip(x.shape[2:], size.unbind(1), strict=True)
        )
        height, width = height[:, None, :, None], width[:, None, None]
        x = x * (height * self.scale) * width
        padding = getattr(self.detector.data_preprocessor, 'pad_value', 0)
        return x + padding * (1 - height * width) if padding else x

    def propose(
        self, scores: Tensor, deltas: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Proposals (N, K, 4), best first, and which ones are real (N, K)."""
        head, cfg = self.detector.rpn_head, self.detector.test_cfg.rpn
        # The exporter folds anchors of a fixed size into a constant.
        (anchors,) = head.prior_generator.grid_priors(
            [scores.shape[2:]], device=scores.device
        )
        # From (h, w, A) to the order of scores and deltas, (A, h, w).
        anchors = anchors.view(-1, scores.size(1), 4).transpose(0, 1)
        deltas = deltas.unflatten(1, (-1, 4)).flatten(3).transpose(2, 3)
        logits = scores.flatten(1)
        most = logits.size(1)
        best = cfg.nms_pre if cfg.get('nms_pre', -1) > 0 else most
        if self.dynamic:
            # A small image may have fewer than `best` anchors.
            logits = F.pad(logits, (0, best), value=-torch.inf)
        elif best > most:
            best = most
        # Select first, so that only the best anchors are decoded.
        logits, index = logits.topk(best)
        index = index.clamp(max=most - 1)
        deltas = take(deltas.flatten(1, 2), index)
        anchors = anchors.flatten(0, 1).index_select(0, index.flatten())
        boxes = decode(head.bbox_coder, anchors, deltas, size)
        scores = logits.sigmoid()
        if self.dynamic:
            scores = torch.where(logits == -torch.inf, -1.0, scores)
        smallest = cfg.get('min_bbox_size', -1)
        if smallest >= 0:
            large = (boxes[..., 2:] - boxes[..., :2] > smallest).all(2)
            scores = torch.where(large, scores, -1.0)
        kept = nms_mask(boxes, scores, cfg.nms.iou_threshold, self.proposals)
        scores = torch.where(kept > 0, scores, -1.0)
        scores, boxes = best_rows(scores, self.proposals, boxes)
        return boxes, scores >= 0

    def classify(self, roi_map: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores (N, K, C) and deltas (N, K, 4 or 4 * C) of RoIs."""
        batch, num_rois, _ = rois.shape
        if isinstance(self.layer, PSRoIAlign):
            pooled = align_bins(roi_map, rois, self.layer, self.values)
        else:
            image = torch.arange(batch, device=rois.device).to(rois)
            image = image[:, None, None].expand(-1, num_rois, 1)
            rois = torch.cat([image, rois], 2).flatten(0, 1)
            pooled = self.layer(roi_map, rois)
        logits, deltas = self.head(pooled)
        scores = logits.softmax(-1)[:, :-1]
        return (
            scores.reshape(batch, num_rois, -1),
            deltas.reshape(batch, num_rois, -1),
        )

    def select(
        self, rois: Tensor, is_roi: Tensor, scores: Tensor, deltas, size
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes (N, D, 4), scores (N, D), labels (N, D) and their number."""
        head, cfg = self.head, self.detector.test_cfg
        batch, _, num_classes = scores.shape
        usable = is_roi[..., None] & (scores > cfg.rcnn.score_thr)
        scores = torch.where(usable, scores, -1.0).flatten(1)
        nms = cfg.rcnn.nms
        is_soft = nms.get('type') == soft_voting.NAME
        candidates = max(CANDIDATES, 20 * self.detections)
        if is_soft:
            candidates = soft_voting.CANDIDATES * self.detections
        ranked, index = scores.topk(min(candidates, scores.size(1)))
        roi, label = index // num_classes, index % num_classes
        # (N, K, C, 4), or one box for all classes.
        box = roi if head.reg_class_agnostic else index
        deltas = take(deltas.reshape(batch, -1, 4), box)
        boxes = decode(head.bbox_coder, take(rois, roi), deltas, size)
        shifted = boxes
        if not nms.get('class_agnostic', False):
            # Shift the boxes of each class so that classes never overlap.
            offset = (size.amax(1)[:, None] + 1) * label
            shifted = boxes + offset[..., None]
        kept = nms_mask(shifted, ranked, nms.iou_threshold, self.detections)
        scores = torch.where(kept > 0, ranked, -1.0)
        if is_soft:
            count = ranked.size(1)
            best, index = scores.topk(min(self.detections, count))
            index = torch.where(best >= 0, index, count)
            scores = soft_voting.decayed_scores(
                shifted, ranked, index, nms.iou_threshold
            )
            usable = scores > cfg.rcnn.score_thr
            scores = torch.where(usable, scores, -1.0)
        scores, rows = best_rows(
            scores,
            self.detections,
            torch.cat([boxes, shifted, label[..., None]], 2),
        )
        found, found_shifted, label = rows.split([4, 4, 1], 2)
        if is_soft:
            sigma = nms.get('sigma', soft_voting.SIGMA)
            found = soft_voting.voted_boxes(
                found, found_shifted, boxes, shifted, ranked, sigma
            )
        is_any = scores >= 0
        return (
            torch.where(is_any[..., None], found, 0.0),
            torch.where(is_any, scores, 0.0),
            torch.where(is_any, label.squeeze(2).long(), -1),
            is_any.sum(1),
        )


def require_known(detector: nn.Module) -> None:
    """Raise for detectors that :class:`DetectorGraph` does not reproduce."""
    necks = LightHeadNeck, RFCNNeck, ThunderNetNeck
    require('neck', getattr(detector, 'neck', None), *necks)
    rpn, head = detector.rpn_head, detector.roi_head.bbox_head
    layer = detector.roi_head.bbox_roi_extractor.roi_layers[0]
    require('roi_layer', layer, PSRoIAlign, PSRoIPool)
    samples = getattr(layer, 'sampling_ratio', 1)
    require('roi_layer.sampling_ratio', max(samples, 0), *range(1, 17))
    require('rpn_head.loss_cls.use_sigmoid', rpn.use_sigmoid_cls, True)
    require('rpn_head levels', len(rpn.prior_generator.strides), 1)
    activation = getattr(head, 'custom_activation', False)
    require('bbox_head.loss_cls.custom_activation', activation, False)
    for part, owner, *known in (
        ('rpn', rpn, 'nms'),
        ('rcnn', head, 'nms', soft_voting.NAME),
    ):
        require(f'{part} bbox_coder', owner.bbox_coder, DeltaXYWHBBoxCoder)
        nms = detector.test_cfg[part].nms.get('type', 'nms')
        require(f'test_cfg.{part}.nms.type', nms, *known)


def require(name: str, value: object, *known: object) -> None:
    if value not in known and type(value) not in known:
        raise UserError(
            f'cannot be exported: {name}: expected one of {known}, got {value}'
        )


def take(values: Tensor, index: Tensor) -> Tensor:
    """Rows ``index`` (N, n) of ``values`` (N, m, c), as (N, n, c)."""
    batch, count, _ = values.shape
    if batch > 1:
        start = torch.arange(batch, device=index.device) * count
        index = index + start[:, None]
    rows = values.flatten(0, 1).index_select(0, index.flatten())
    return rows.view(batch, -1, values.size(2))


def best_rows(
    scores: Tensor, most: int, values: Tensor
) -> tuple[Tensor, Tensor]:
    """The best scores (N, ``most``) and their rows of ``values`` (N, n, c)."""
    missing = most - scores.size(1)
    if missing > 0:
        scores = F.pad(scores, (0, missing), value=-1.0)
        values = F.pad(values, (0, 0, 0, missing))
    scores, index = scores.topk(most)
    return scores, take(values, index)


def decode(coder, anchors: Tensor, deltas: Tensor, size: Tensor) -> Tensor:
    """Decode deltas (N, n, 4) to boxes, clipped to the images."""
    # The coder's own `decode` takes a slower path when exported.
    boxes = delta2bbox(
        anchors.view(-1, 4),
        deltas.flatten(0, 1),
        *(coder.means, coder.stds),
        add_ctr_clamp=coder.add_ctr_clamp,
        ctr_clamp=coder.ctr_clamp,
    ).view_as(deltas)
    if not coder.clip_border:
        return boxes
    return boxes.clamp(min=0).minimum(size.flip(1).repeat(1, 2)[:, None])


def align_bins(
    roi_map: Tensor, rois: Tensor, layer: PSRoIAlign, values: int
) -> Tensor:
    """Position-sensitive RoI align as RoI align of bins.

    Each bin is a separate RoI that reads its own plane of C channels from the
    map, whose channels are ordered bin by bin. RoIs lie within the image, so a
    sample is at most half a cell outside the map and takes the border's value.
    Returns (N * K, C, P, P), where C is ``values``.
    """
    batch, num_rois, _ = rois.shape
    ph, pw = _pair(layer.output_size)
    bins = torch.arange(ph * pw, device=rois.device)
    # A bin's box is linear in its RoI's box, so the bins of four unit vectors
    # form the matrix that maps a RoI to its bins.
    corners = torch.eye(4, device=rois.device)[:, None] * layer.spatial_scale
    step = (corners[..., 2:] - corners[..., :2]) / rois.new_tensor([pw, ph])
    start = corners[..., :2] + torch.stack([bins % pw, bins // pw], 1) * step
    matrix = torch.cat([start, start + step], 2).flatten(1)
    # RoI align places values at the centres of cells.
    boxes = rois.flatten(0, 1) @ matrix + (0.0 if layer.aligned else 0.5)
    planes = roi_map.unflatten(1, (-1, values))
    index = torch.arange(batch, device=rois.device)[:, None] * planes.size(1)
    index = index + bins.repeat(num_rois)
    # For the maximum, split a bin into cells with one sample each.
    side, samples = 1, layer.sampling_ratio
    if layer.mode == 'max':
        side, samples = samples, side
    pooled = bin_align(
        planes.flatten(0, 1), boxes.view(-1, 4), index.flatten(), side, samples
    )
    pooled = pooled.amax((2, 3)) if side > 1 else pooled
    pooled = pooled.view(-1, ph * pw, values)
    return pooled.transpose(1, 2).unflatten(2, (ph, pw))
