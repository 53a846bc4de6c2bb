"""Hard example mining with every kind of class and box loss."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

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
    'IoU': dict(type='IoULoss'),
    'GIoU': dict(type='GIoULoss'),
}


def bbox_head(loss_cls='softmax', loss_bbox='L1', **kwargs):
    return MODELS.build(
        dict(
            type='LightHeadBBoxHead',
            in_channels=10,
            num_classes=3,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_cls=CLASS_LOSSES[loss_cls],
            loss_bbox=BOX_LOSSES[loss_bbox],
            reg_decoded_bbox='IoU' in loss_bbox,
            **kwargs,
        )
    )


def loss_arguments(head, num_rois=12):
    """RoIs of two images, the first third being foreground."""
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
    outputs = head.fc_cls.out_features, head.fc_reg.out_features
    scores, deltas = (
        torch.randn(num_rois, n, generator=generator) for n in outputs
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


def total(losses):
    return float(sum(v for k, v in losses.items() if k.startswith('loss')))


def chosen(arguments, rows):
    return {name: value[rows] for name, value in arguments.items()}


class OneForAll(torch.nn.Module):
    custom_activation = False

    def forward(self, *args, **kwargs):
        return torch.tensor(1.0)


@pytest.mark.parametrize('agnostic', [False, True])
@pytest.mark.parametrize('loss_bbox', BOX_LOSSES)
@pytest.mark.parametrize('loss_cls', CLASS_LOSSES)
def test_loss_is_that_of_the_rois_whose_own_losses_are_largest(
    loss_cls, loss_bbox, agnostic
):
    plain = bbox_head(loss_cls, loss_bbox, reg_class_agnostic=agnostic)
    mined = bbox_head(
        loss_cls, loss_bbox, reg_class_agnostic=agnostic, ohem_num=2
    )
    arguments = loss_arguments(plain)
    # Seesaw loss weighs by what it has seen, which ranking begins with.
    seen = [b.clone() for b in plain.loss_cls.buffers()]
    if seen:
        plain.loss(**arguments)
        seen = plain.loss_cls.cum_samples.clone()

    def of_one(roi):
        if len(seen):
            plain.loss_cls.cum_samples.copy_(seen)
            plain.loss_cls.cum_samples[arguments['labels'][roi]] -= 1
        return total(plain.loss(**chosen(arguments, [roi])))

    each = [of_one(roi) for roi in range(12)]
    for buffer in plain.loss_cls.buffers():
        buffer.zero_()
    hard = []
    for image in 0, 1:
        own = [roi for roi in range(12) if arguments['rois'][roi, 0] == image]
        hard += sorted(own, key=each.__getitem__, reverse=True)[:2]
    expected = plain.loss(**chosen(arguments, sorted(hard)))
    assert total(mined.loss(**arguments)) == pytest.approx(total(expected))


def test_a_loss_that_counts_its_samples_counts_the_chosen_once():
    head = bbox_head('seesaw', ohem_num=2)
    head.loss(**loss_arguments(head))
    assert head.loss_cls.cum_samples.sum() == 4


def test_ranking_without_a_graph_gives_the_same_losses_and_gradients(root):
    found = []
    for kind in 'StandardRoIHead', 'LightHeadRoIHead':
        path = root / 'configs/_base_/models/lighthead_shufflenetv2.py'
        cfg = Config.fromfile(path).model
        cfg.backbone.update(widen_factor=0.5, init_cfg=None)
        cfg.neck.in_channels = (96, 1024)
        cfg.rpn_head.in_channels = 96
        cfg.roi_head.type = kind
        cfg.roi_head.bbox_head.ohem_num = 4
        torch.manual_seed(0)
        model = MODELS.build(cfg).train()
        boxes = torch.tensor([[10.0, 10, 60, 70], [5, 20, 90, 80]])
        sample = DetDataSample(
            metainfo=dict.fromkeys(
                ('img_shape', 'pad_shape', 'batch_input_shape'), (96, 96)
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.tensor([1, 2])
        )
        images = torch.randn(2, 3, 96, 96)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t
        ):
            losses = model.loss(images, [sample, sample])
        (losses['loss_cls'] + losses['loss_bbox']).backward()
        gradients = [p.grad for p in model.roi_head.parameters()]
        gradients += [p.grad for p in model.neck.parameters()]
        found.append((losses, gradients, sum(kept)))
    (plain, gradients, much), (ours, others, little) = found
    for name in 'loss_cls', 'loss_bbox', 'acc':
        torch.testing.assert_close(ours[name], plain[name])
    for a, b in zip(gradients, others, strict=True):
        torch.testing.assert_close(b, a)
    assert little < much


@pytest.mark.parametrize('loss_bbox', BOX_LOSSES)
@pytest.mark.parametrize('num_rois', [0, 12])
def test_no_foreground_is_finite(loss_bbox, num_rois):
    head = bbox_head(loss_bbox=loss_bbox, ohem_num=2)
    arguments = loss_arguments(head, num_rois)
    arguments['labels'][:] = 3
    losses = head.loss(**arguments)
    assert all(torch.isfinite(v).all() for v in losses.values())


def test_loss_that_cannot_be_told_apart_by_roi_is_refused():
    head = bbox_head(ohem_num=2)
    head.loss_cls = OneForAll()
    with pytest.raises(ValueError, match='loss_cls of 12 RoIs'):
        head.loss(**loss_arguments(head))
