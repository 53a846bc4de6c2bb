import pytest
import torch
from mmengine.config import ConfigDict

from mmdet_shufflenetv2.analysis.networks import (
    Subject,
    load_subject,
    random_image,
)
from mmdet_shufflenetv2.analysis.random_weights import let_pass, settle
from mmdet_shufflenetv2.measure.setting import Setting

CONFIG = 'configs/lighthead_shufflenetv2_x0_5.py'


@pytest.fixture(scope='module')
def detector(root):
    return load_subject(str(root / CONFIG))


def test_maps_of_random_weights_get_the_size_of_trained_ones():
    subject = load_subject('ResNet', dict(depth=18, norm_eval=True))
    subject.model.init_weights()
    last_of_a_branch = subject.model.layer1[0].norm2
    assert not last_of_a_branch.weight.any()
    image = random_image(2, (64, 64))
    settle(subject, (64, 64), Setting())
    with torch.no_grad():
        sizes = [m.std() for m in subject.features(image).values()]
    assert all(0.1 < size < 10 for size in sizes)
    assert not any(m.training for m in subject.model.modules())
    # As in a trained network, the residual branch has something to add.
    assert last_of_a_branch.weight.all()


class Scorer(torch.nn.Module):
    def __init__(self, score_thr):
        super().__init__()
        self.test_cfg = ConfigDict(score_thr=score_thr)

    def forward(self, scores):
        return sum((s > self.test_cfg.score_thr).sum() for s in scores)


def test_as_many_boxes_pass_as_asked_for():
    generator = torch.Generator().manual_seed(0)
    scores = [torch.rand(5, 30, generator=generator) for _ in range(3)]
    scorer = Scorer(0.05)
    assert scorer(scores) > 300
    threshold = let_pass(scorer, lambda: scorer(scores), 100)
    assert scorer.test_cfg.score_thr == threshold
    assert scorer(scores) == 100


def test_all_pass_where_there_are_fewer():
    scores = [torch.tensor([0.1, 0.2, 0.3])]
    scorer = Scorer(0.9)
    let_pass(scorer, lambda: scorer(scores), 100)
    assert scorer(scores) == 2


def test_no_threshold_is_set_where_none_is_compared_with():
    scorer = Scorer(0.05)
    assert let_pass(scorer, lambda: torch.ones(3) > 0.5, 100) is None
    assert scorer.test_cfg.score_thr == 0.05


def test_a_detectors_threshold_lets_the_candidates_pass(detector):
    image = random_image(1, (96, 96))
    threshold = let_pass(
        detector.model, lambda: detector.run(image), candidates=50
    )
    with torch.no_grad():
        (result,) = detector.run(image)
    scores = result.pred_instances.scores
    assert 0 < len(scores) <= 50
    assert scores.min() > threshold
    assert isinstance(detector, Subject)
