"""Suppression and overlaps against loops over single boxes."""

import math

import pytest
import torch
from mmcv.ops import nms, nms_match, soft_nms
from torch import Tensor

DECAYS = {
    'naive': lambda iou, threshold, sigma: float(iou < threshold),
    'linear': lambda iou, threshold, sigma: 1 - iou * (iou >= threshold),
    'gaussian': lambda iou, threshold, sigma: math.exp(-(iou**2) / sigma),
}


@pytest.fixture
def boxes() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(60, 2, generator=generator) * 30
    size = torch.rand(60, 2, generator=generator) * 25 + 1
    return torch.cat((corners, corners + size), 1)


@pytest.fixture
def scores() -> Tensor:
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    return (order + 1) / 61


def overlap(first: Tensor, second: Tensor, offset: int = 0) -> float:
    """IoU of two boxes; ``offset`` 1 includes their last pixels."""
    shared = (
        torch.maximum(first[:2], second[:2]),
        torch.minimum(first[2:], second[2:]),
    )
    both, one, other = (
        (last - start + offset).clamp(min=0).double().prod()
        for start, last in (shared, first.split(2), second.split(2))
    )
    return float(both / (one + other - both))


def groups_of(
    boxes: Tensor, scores: Tensor, offset: int, suppresses
) -> list[list[int]]:
    """Each kept box, with the boxes that it suppresses."""
    order = scores.argsort(descending=True).tolist()
    groups = []
    while order:
        best, order = order[0], order[1:]
        overlaps = {i: overlap(boxes[best], boxes[i], offset) for i in order}
        gone = [i for i, iou in overlaps.items() if suppresses(iou)]
        groups.append([best, *gone])
        order = [i for i in order if i not in gone]
    return groups


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.1, 0.3, 0.6])
def test_nms_keeps_what_the_loop_keeps(boxes, scores, threshold, offset):
    dets, kept = nms(boxes, scores, threshold, offset)
    groups = groups_of(boxes, scores, offset, lambda iou: iou > threshold)
    assert 1 < len(kept) < len(boxes)
    assert kept.tolist() == [best for best, *_ in groups]
    assert torch.equal(dets, torch.cat((boxes, scores[:, None]), 1)[kept])


@pytest.mark.parametrize('operation', [nms, soft_nms])
def test_no_boxes_give_no_boxes(operation):
    dets, kept = operation(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)


def soft_nms_by_loop(
    boxes, scores, threshold, *, sigma, min_score, method, offset
) -> list[tuple[int, float]]:
    left = dict(enumerate(scores.tolist()))
    kept = []
    while left:
        best = max(left, key=left.get)
        kept.append((best, left.pop(best)))
        for i in list(left):
            iou = overlap(boxes[best], boxes[i], offset)
            left[i] *= DECAYS[method](iou, threshold, sigma)
            if left[i] < min_score:
                del left[i]
    return kept


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', DECAYS)
@pytest.mark.parametrize('min_score', [1e-3, 0.3])
def test_soft_nms_scores_like_the_loop(
    boxes, scores, method, min_score, offset
):
    settings = dict(
        sigma=0.5, min_score=min_score, method=method, offset=offset
    )
    dets, kept = soft_nms(boxes, scores, 0.3, **settings)
    expected = soft_nms_by_loop(boxes, scores, 0.3, **settings)
    assert kept.tolist() == [index for index, _ in expected]
    assert torch.equal(dets[:, :4], boxes[kept])
    torch.testing.assert_close(
        dets[:, 4], torch.tensor([score for _, score in expected])
    )


@pytest.mark.parametrize('method', DECAYS)
def test_soft_nms_keeps_points_without_area(method):
    points, scores = torch.ones(3, 4), torch.tensor([0.3, 0.9, 0.6])
    _, kept = soft_nms(points, scores, 0.3, method=method)
    assert kept.tolist() == [1, 2, 0]


def test_nms_match_groups_like_the_loop(boxes, scores):
    groups = nms_match(torch.cat((boxes, scores[:, None]), 1), 0.4)
    expected = groups_of(boxes, scores, 0, lambda iou: iou >= 0.4)
    assert [group.tolist() for group in groups] == expected
    assert max(map(len, expected)) > 1
