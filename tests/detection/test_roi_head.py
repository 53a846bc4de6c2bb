"""RoI pooling, the box head, and OHEM with every kind of loss."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from reference_networks import kept_for_backward

from mmdet_shufflenetv2.ops import ps_roi_align, ps_roi_pool


def extractor(**layer):
    return MODELS.build(
        dict(
            type='PSRoIExtractor',
            roi_layer=dict(output_size=7, **layer),
            featmap_strides=[32],
        )
    )


def test_extractor_pools_at_the_stride_of_its_map():
    thin = torch.rand(2, 490, 9, 9)
    rois = torch.tensor([[0, 10.0, 20, 200, 180], [1, 0, 0, 90, 250]])
    aligned = extractor(type='PSRoIAlign', sampling_ratio=2)((thin,), rois)
    expected = ps_roi_align(thin, rois, 7, 1 / 32, 2)
    torch.testing.assert_close(aligned, expected)
    pooled = extractor(type='PSRoIPool')((thin,), rois)
    torch.testing.assert_close(pooled, ps_roi_pool(thin, rois, 7, 1 / 32))
    with pytest.raises(ValueError, match=r'PSRoIAlign.*RoIAlign'):
        extractor(type='RoIAlign')


CLASS_LOSSES = {
    'softmax': dict(type='CrossEntropyLoss'),
    'sigmoid': dict(type='CrossEntropyLoss', use_sigmoid=True),
    'focal': dict(type='FocalLoss', use_sigmoid=True),
    'weighted': dict(
        type='CrossEntropyLoss', class_weight=[1.0, 2.0, 3.0, 0.5]
    ),
    'seesaw': dict(type='SeesawLoss', num_classes=3),
}
BOX_LOSSES = {
    'L1': dict(type='L1Loss'),
    'smooth L1, doubled': dict(
        type='SmoothL1Loss', beta=1 / 9, loss_weight=2.0
    ),
    'GIoU': dict(type='GIoULoss'),
}


def bbox_head(loss_cls='softmax', loss_bbox='L1', **options):
    head = dict(
        type='LightHeadBBoxHead',
        in_channels=10,
        num_classes=3,
        loss_cls=CLASS_LOSSES[loss_cls],
        loss_bbox=BOX_LOSSES[loss_bbox],
        reg_decoded_bbox='IoU' in loss_bbox,
    )
    return MODELS.build(head | options)


def loss_arguments(head, num_rois=12):
    """RoIs of two images; the first third is foreground."""
    generator = torch.Generator().manual_seed(1)

    def boxes():
        corner = torch.rand(num_rois, 2, generator=generator) * 20
        size = torch.rand(num_rois, 2, generator=generator) * 40 + 9
        return torch.cat([corner, corner + size], 1)

    labels = torch.full((num_rois,), 3)
    labels[::3] = torch.arange(len(labels[::3])) % 3
    image = torch.arange(num_rois) % 2
    targets = boxes()
    if not head.reg_decoded_bbox:
        targets = torch.randn(num_rois, 4, generator=generator)
    scores, deltas = (
        torch.randn(num_rois, layer.out_features, generator=generator)
        for layer in (head.fc_cls, head.fc_reg)
    )
    return dict(
        cls_score=scores,
        bbox_pred=deltas / 5,
        rois=torch.cat([image[:, None], boxes()], 1),
        labels=labels,
        label_weights=torch.ones(num_rois),
        bbox_targets=targets,
        bbox_weights=(labels < 3).float()[:, None].expand(-1, 4),
    )


def total(head, arguments, rois=slice(None)) -> float:
    losses = head.loss(**{k: v[rois] for k, v in arguments.items()})
    return float(sum(v for k, v in losses.items() if k.startswith('loss')))


@pytest.mark.parametrize('agnostic', [False, True])
@pytest.mark.parametrize('loss_bbox', BOX_LOSSES)
@pytest.mark.parametrize('loss_cls', CLASS_LOSSES)
def test_loss_is_that_of_the_rois_with_the_largest_losses(
    loss_cls, loss_bbox, agnostic
):
    plain, mined = (
        bbox_head(loss_cls, loss_bbox, reg_class_agnostic=agnostic, **mining)
        for mining in ({}, dict(ohem_num=2))
    )
    arguments = loss_arguments(plain)
    # Seesaw loss weights by the samples seen so far.
    seen = None
    if loss_cls == 'seesaw':
        plain.loss(**arguments)
        seen = plain.loss_cls.cum_samples.clone()

    def of_one(roi):
        if seen is not None:
            plain.loss_cls.cum_samples.copy_(seen)
            plain.loss_cls.cum_samples[arguments['labels'][roi]] -= 1
        return total(plain, arguments, [roi])

    each = [of_one(roi) for roi in range(12)]
    for buffer in plain.loss_cls.buffers():
        buffer.zero_()
    hard = []
    for image in 0, 1:
        own = [roi for roi in range(12) if arguments['rois'][roi, 0] == image]
        hard += sorted(own, key=each.__getitem__, reverse=True)[:2]
    expected = total(plain, arguments, sorted(hard))
    assert total(mined, arguments) == pytest.approx(expected)
    if seen is not None:
        # Seesaw loss counts the hardest RoIs once.
        assert mined.loss_cls.cum_samples.sum() == 4


@pytest.mark.parametrize('loss_bbox', BOX_LOSSES)
@pytest.mark.parametrize('num_rois', [0, 12])
def test_no_foreground_is_finite(loss_bbox, num_rois):
    head = bbox_head(loss_bbox=loss_bbox, ohem_num=2)
    arguments = loss_arguments(head, num_rois)
    arguments['labels'][:] = 3
    losses = head.loss(**arguments)
    assert all(torch.isfinite(v).all() for v in losses.values())


class OneForAll(torch.nn.Module):
    custom_activation = False

    def forward(self, *args, **kwargs):
        return torch.tensor(1.0)


def test_a_loss_without_values_per_roi_is_rejected():
    head = bbox_head(ohem_num=2)
    head.loss_cls = OneForAll()
    with pytest.raises(ValueError, match='loss_cls of 12 RoIs'):
        head.loss(**loss_arguments(head))


def test_ranking_without_a_graph_gives_the_same_losses_and_gradients(root):
    found = []
    boxes = torch.tensor([[10.0, 10, 60, 70], [5, 20, 90, 80]])
    shapes = ('img_shape', 'pad_shape', 'batch_input_shape')
    sample = DetDataSample(metainfo=dict.fromkeys(shapes, (96, 96)))
    sample.gt_instances = InstanceData(
        bboxes=boxes, labels=torch.tensor([1, 2])
    )
    path = root / 'configs/_base_/models/lighthead_shufflenetv2.py'
    for kind in 'StandardRoIHead', 'LightHeadRoIHead':
        cfg = Config.fromfile(path).model
        cfg.roi_head.type = kind
        cfg.roi_head.bbox_head.ohem_num = 4
        torch.manual_seed(0)
        model = MODELS.build(cfg).train()
        images = torch.randn(2, 3, 96, 96)
        with kept_for_backward() as kept:
            losses = model.loss(images, [sample, sample])
        (losses['loss_cls'] + losses['loss_bbox']).backward()
        parts = model.roi_head, model.neck
        gradients = [p.grad for part in parts for p in part.parameters()]
        values = [losses[name] for name in ('loss_cls', 'loss_bbox', 'acc')]
        memory = sum(t.numel() for t in kept)
        found.append(([*values, *gradients], memory))
    (plain, much), (ours, little) = found
    torch.testing.assert_close(ours, plain)
    assert little < much
