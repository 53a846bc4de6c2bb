import pytest
import torch
from mmdet.registry import MODELS

from mmdet_shufflenetv2.detection.hard_examples import hardest_per_image


def bbox_head(**kwargs):
    return MODELS.build(
        dict(
            type='LightHeadBBoxHead',
            in_channels=10,
            num_classes=3,
            loss_cls=dict(type='CrossEntropyLoss'),
            loss_bbox=dict(type='L1Loss'),
            **kwargs,
        )
    )


def loss_arguments(num_rois=12):
    """RoIs of two images, the first third being foreground."""
    torch.manual_seed(1)
    labels = torch.full((num_rois,), 3)
    labels[::3] = torch.arange(len(labels[::3])) % 3
    rois = torch.rand(num_rois, 5)
    rois[:, 0] = torch.arange(num_rois) % 2
    weights = (labels < 3).float()[:, None].expand(-1, 4)
    return dict(
        cls_score=torch.randn(num_rois, 4),
        bbox_pred=torch.randn(num_rois, 12),
        rois=rois,
        labels=labels,
        label_weights=torch.ones(num_rois),
        bbox_targets=torch.randn(num_rois, 4),
        bbox_weights=weights,
    )


def slow_hard_loss(arguments, num_hard):
    """The class loss over the hardest RoIs, one RoI at a time."""
    scores, boxes = arguments['cls_score'], arguments['bbox_pred']
    each = []
    for i, label in enumerate(arguments['labels'].tolist()):
        cls = -scores[i].log_softmax(0)[label]
        box = torch.tensor(0.0)
        if label < 3:
            predicted = boxes[i].view(3, 4)[label]
            box = (predicted - arguments['bbox_targets'][i]).abs().sum()
        each.append((float(cls + box), float(cls), float(box), i))
    chosen = []
    for image in 0, 1:
        own = [e for e in each if arguments['rois'][e[3], 0] == image]
        chosen += sorted(own, reverse=True)[:num_hard]
    cls, box = sum(e[1] for e in chosen), sum(e[2] for e in chosen)
    return cls / len(chosen), box / len(chosen)


@pytest.mark.parametrize('num_hard', [1, 2, 5, 100])
def test_hard_examples_equal_a_loop(num_hard):
    arguments = loss_arguments()
    losses = bbox_head(num_hard=num_hard).loss(**arguments)
    loss_cls, loss_bbox = slow_hard_loss(arguments, num_hard)
    assert float(losses['loss_cls']) == pytest.approx(loss_cls, rel=1e-5)
    assert float(losses['loss_bbox']) == pytest.approx(loss_bbox, rel=1e-5)


def test_hard_examples_raise_the_loss():
    hard = bbox_head(num_hard=2).loss(**loss_arguments())
    every = bbox_head().loss(**loss_arguments())
    total = [loss['loss_cls'] + loss['loss_bbox'] for loss in (hard, every)]
    assert total[0] > total[1]


def test_hard_examples_without_foreground():
    arguments = loss_arguments()
    arguments['labels'][:] = 3
    losses = bbox_head(num_hard=2).loss(**arguments)
    assert torch.isfinite(losses['loss_cls'])


def test_hard_examples_of_nothing():
    losses = bbox_head(num_hard=2).loss(**loss_arguments(0))
    assert all(torch.isfinite(v).all() for v in losses.values())


@pytest.mark.parametrize('num_hard', [0, 1.5, True])
def test_what_is_no_number_of_hard_examples_is_refused(num_hard):
    with pytest.raises(ValueError, match='num_hard must be a positive whole'):
        bbox_head(num_hard=num_hard)


def test_hardest_per_image_takes_the_largest_of_each():
    losses = torch.tensor([1.0, 9.0, 3.0, 4.0, 2.0])
    image = torch.tensor([0, 1, 0, 1, 0])
    assert hardest_per_image(losses, image, 1).tolist() == [1, 2]
    assert hardest_per_image(losses, image, 2).tolist() == [1, 2, 3, 4]
