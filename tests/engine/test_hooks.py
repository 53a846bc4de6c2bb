import numpy as np
import pytest
from mmengine.logging import MessageHub

from mmdet_shufflenetv2.engine.hooks import draw_curves, smoothed


@pytest.fixture
def hub(request):
    return MessageHub(request.node.name)


def test_curves_show_every_loss_and_score(hub):
    for step in range(100):
        hub.update_scalar('train/loss', 2.0 - step / 100)
        hub.update_scalar('train/lr', 1.0)
    for score in 0.1, 0.3:
        hub.update_scalar('val/coco/bbox_mAP', score)
    losses, scores = draw_curves(hub, val_interval=5).axes
    assert [line.get_label() for line in losses.lines] == ['loss']
    assert [line.get_label() for line in scores.lines] == ['coco/bbox_mAP']
    np.testing.assert_allclose(scores.lines[0].get_xdata(), [5, 10])
    np.testing.assert_allclose(scores.lines[0].get_ydata(), [0.1, 0.3])


def test_errors_are_drawn_in_percent_over_iterations(hub):
    for error in 80.0, 40.0:
        hub.update_scalar('val/error/top1', error)
    scores = draw_curves(hub, val_interval=200, unit='iteration').axes[1]
    np.testing.assert_allclose(scores.lines[0].get_xdata(), [200, 400])
    assert scores.get_ylim() == (0, 100)
    assert scores.get_xlabel() == 'iteration'
    assert '%' in scores.get_ylabel()


def test_last_score_is_drawn_where_the_run_ends(hub):
    for score in 0.1, 0.3, 0.4:
        hub.update_scalar('val/coco/bbox_mAP', score)
    scores = draw_curves(hub, val_interval=5, last=12).axes[1]
    np.testing.assert_allclose(scores.lines[0].get_xdata(), [5, 10, 12])


def test_curves_of_a_run_without_validation(hub):
    hub.update_scalar('train/loss', 2.0)
    losses, scores = draw_curves(hub).axes
    assert len(losses.lines) == 1
    assert not scores.lines


def test_a_score_of_an_absent_size_is_a_gap(hub):
    hub.update_scalar('val/coco/bbox_mAP_l', -1.0)
    scores = draw_curves(hub).axes[1]
    assert np.isnan(scores.lines[0].get_ydata()).all()


@pytest.mark.parametrize('count', [1, 49, 50, 1000])
def test_running_mean_keeps_a_constant_and_ends_at_the_last_step(count):
    positions, means = smoothed(np.full(count, 3.0))
    np.testing.assert_allclose(means, 3.0)
    assert len(positions) == len(means)
    assert positions[-1] == count


def test_running_mean_is_the_mean_of_its_window():
    _, means = smoothed(np.arange(100.0))
    np.testing.assert_allclose(means, np.arange(99) + 0.5)
