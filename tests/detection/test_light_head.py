import pytest
import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from mmdet_shufflenetv2.detection.light_head import (
    first_kept,
    hardest_per_image,
)
from mmdet_shufflenetv2.ops import ps_roi_align, ps_roi_pool

TEST_CFG = ConfigDict(
    nms_pre=100,
    max_per_img=20,
    nms=dict(type='nms', iou_threshold=0.7),
    min_bbox_size=0,
)


def rpn_config(head_type, **kwargs):
    return dict(
        type=head_type,
        in_channels=8,
        feat_channels=8,
        anchor_generator=dict(
            type='AnchorGenerator',
            scales=[2, 4],
            ratios=[0.5, 1.0, 2.0],
            strides=[16],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_bbox=dict(type='L1Loss'),
        test_cfg=TEST_CFG,
        **kwargs,
    )


@pytest.fixture
def heads():
    """Our head and mmdet's with the same weights."""
    torch.manual_seed(0)
    ours = MODELS.build(rpn_config('LightHeadRPNHead'))
    stock = MODELS.build(rpn_config('RPNHead'))
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    stock.load_state_dict(ours.state_dict())
    return ours, stock


METAS = [
    dict(img_shape=(128, 160), scale_factor=(0.5, 0.25)),
    dict(img_shape=(100, 90), scale_factor=(2.0, 2.0)),
]


def test_rpn_reads_the_last_map_only(heads):
    ours, _ = heads
    thin, feature = torch.randn(1, 490, 4, 4), torch.randn(1, 8, 8, 10)
    scores, deltas = ours((thin, feature))
    assert scores[0].shape == (1, 6, 8, 10)
    assert deltas[0].shape == (1, 24, 8, 10)


@pytest.mark.parametrize('rescale', [False, True])
@pytest.mark.parametrize('nms_pre', [-1, 30, 10_000])
@pytest.mark.parametrize('max_per_img', [5, 40, 2000])
def test_proposals_equal_mmdets(heads, rescale, nms_pre, max_per_img):
    ours, stock = heads
    x = (torch.randn(2, 8, 8, 10),)
    cfg = ConfigDict(TEST_CFG, nms_pre=nms_pre, max_per_img=max_per_img)
    arguments = dict(batch_img_metas=METAS, cfg=cfg, rescale=rescale)
    expected = RPNHead.predict_by_feat(stock, *stock(x), **arguments)
    for result, wanted in zip(
        ours.predict_by_feat(*ours(x), **arguments), expected, strict=True
    ):
        torch.testing.assert_close(result.scores, wanted.scores)
        torch.testing.assert_close(result.bboxes, wanted.bboxes)
        assert result.labels.dtype == torch.long
        assert len(result.labels) == len(result.bboxes) > 0


def test_proposals_drop_boxes_below_the_minimum_size(heads):
    ours, _ = heads
    cfg = ConfigDict(TEST_CFG, min_bbox_size=40)
    results = ours.predict_by_feat(
        *ours((torch.randn(2, 8, 8, 10),)), batch_img_metas=METAS, cfg=cfg
    )
    boxes = torch.cat([r.bboxes for r in results])
    assert len(boxes)
    assert (boxes[:, 2:] - boxes[:, :2]).min() > 40


@pytest.mark.parametrize('max_num', [1, 7, 1000])
def test_first_kept_are_the_first_of_all(max_num):
    from torchvision.ops import nms

    corner = torch.rand(500, 2) * 50
    boxes = torch.cat([corner, corner + 5 + torch.rand(500, 2) * 30], 1)
    scores = torch.rand(500).sort(descending=True).values
    expected = nms(boxes, scores, 0.5)[:max_num]
    assert torch.equal(first_kept(boxes, scores, 0.5, max_num), expected)


def test_first_kept_of_nothing_is_nothing():
    kept = first_kept(torch.zeros(0, 4), torch.zeros(0), 0.5, 10)
    assert kept.shape == (0,)


def extractor(**layer):
    return MODELS.build(
        dict(
            type='PSRoIExtractor',
            roi_layer=dict(output_size=7, **layer),
            out_channels=10,
            featmap_strides=[32],
        )
    )


ROIS = torch.tensor([[0, 10.0, 20, 200, 180], [1, 0, 0, 90, 250]])


def test_extractor_pools_at_the_stride_of_its_map():
    thin = torch.rand(2, 490, 9, 9)
    layer = extractor(type='PSRoIAlign', sampling_ratio=2)
    expected = ps_roi_align(thin, ROIS, 7, 1 / 32, 2)
    torch.testing.assert_close(layer((thin,), ROIS), expected)
    pooled = extractor(type='PSRoIPool')((thin,), ROIS)
    torch.testing.assert_close(pooled, ps_roi_pool(thin, ROIS, 7, 1 / 32))
    assert not torch.allclose(expected, pooled)


def test_extractor_scales_rois_on_request():
    thin = torch.rand(2, 490, 9, 9)
    layer = extractor(type='PSRoIAlign', sampling_ratio=2)
    twice = layer((thin,), ROIS, roi_scale_factor=2.0)
    assert not torch.allclose(twice, layer((thin,), ROIS))


def test_extractor_refuses_other_layers():
    with pytest.raises(ValueError, match=r'PSRoIAlign.*RoIAlign'):
        extractor(type='RoIAlign')


def test_extractor_refuses_several_maps():
    with pytest.raises(ValueError, match='one map'):
        MODELS.build(
            dict(
                type='PSRoIExtractor',
                roi_layer=dict(type='PSRoIAlign', output_size=7),
                out_channels=10,
                featmap_strides=[16, 32],
            )
        )


def bbox_head(**kwargs):
    return MODELS.build(
        dict(
            type='LightHeadBBoxHead',
            in_channels=10,
            roi_feat_size=7,
            num_classes=3,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_cls=dict(type='CrossEntropyLoss'),
            loss_bbox=dict(type='L1Loss'),
            **kwargs,
        )
    )


def test_head_is_one_layer_of_2048_then_scores_and_boxes():
    head = bbox_head()
    shapes = {k: tuple(v.shape) for k, v in head.named_parameters()}
    assert shapes['shared_fcs.0.weight'] == (2048, 490)
    assert shapes['fc_cls.weight'] == (4, 2048)
    assert shapes['fc_reg.weight'] == (12, 2048)
    scores, boxes = head(torch.rand(5, 10, 7, 7))
    assert scores.shape == (5, 4)
    assert boxes.shape == (5, 12)


def test_class_agnostic_head_has_four_box_outputs():
    head = bbox_head(reg_class_agnostic=True)
    assert head.fc_reg.out_features == 4


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


def test_zero_hard_examples_are_refused():
    with pytest.raises(ValueError, match='num_hard must be positive'):
        bbox_head(num_hard=0)


def test_hardest_per_image_takes_the_largest_of_each():
    losses = torch.tensor([1.0, 9.0, 3.0, 4.0, 2.0])
    image = torch.tensor([0, 1, 0, 1, 0])
    assert hardest_per_image(losses, image, 1).tolist() == [1, 2]
    assert hardest_per_image(losses, image, 2).tolist() == [1, 2, 3, 4]
