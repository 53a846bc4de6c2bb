from itertools import pairwise
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_shufflenetv2.__main__ import resource_root
from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.measure import detector as taken_apart
from mmdet_shufflenetv2.measure.detector import (
    PARTS,
    Detector,
    class_scores,
    make_samples,
)
from mmdet_shufflenetv2.measure.detectors import (
    REFERENCES,
    TABLE7,
    benchmarks,
    default_configs,
    reference_of,
    summary,
)
from mmdet_shufflenetv2.measure.setting import Setting

SIZE, BATCH = (128, 96), 2


def config(name='lighthead_shufflenetv2_x0_5'):
    return Config.fromfile(resource_root() / 'configs' / f'{name}.py')


@pytest.fixture(autouse=True, scope='module')
def few():
    with pytest.MonkeyPatch.context() as patch:
        # No more boxes than such small images have room for.
        patch.setattr(taken_apart, 'CANDIDATES', 40)
        patch.setattr(taken_apart, 'JPEGS', 3)
        yield


@pytest.fixture(scope='module')
def detector():
    return Detector(config(), SIZE, BATCH, Setting())


def values(detections):
    return [
        torch.cat([d.bboxes.flatten(), d.scores, d.labels])
        for d in (getattr(d, 'pred_instances', d) for d in detections)
    ]


def test_every_network_gives_post_processing_the_same_to_do(detector):
    other = Detector(config('lighthead_xception_x0_5'), SIZE, BATCH, Setting())
    for part in 'detection', 'post-processing':
        mine, theirs = (
            values(each.part(part)()) for each in (detector, other)
        )
        for a, b in zip(mine, theirs, strict=True):
            assert len(a)
            assert torch.equal(a, b)
    assert torch.equal(
        detector.part('network')()[1], other.part('network')()[1]
    )


def test_weights_are_seeded(detector):
    torch.manual_seed(7)
    again = Detector(config(), SIZE, BATCH, Setting()).model.state_dict()
    for name, weight in detector.model.state_dict().items():
        assert torch.equal(weight, again[name])


def test_a_training_step_leaves_the_other_parts_as_they_were(detector):
    before = {k: v.clone() for k, v in detector.model.state_dict().items()}
    for _ in range(2):
        detector.part('training step')()
    for name, value in detector.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not detector.model.training
    assert not any(
        norm.training
        for norm in detector.model.modules()
        if isinstance(norm, _BatchNorm)
    )


def test_a_threshold_that_everything_passes_is_told(detector):
    assert detector.warning == ''
    cfg = config()
    cfg.model.test_cfg.rcnn.score_thr = 0
    everything = Detector(cfg, SIZE, BATCH, Setting())
    assert 'boxes per image pass score_thr=0, not 40' in everything.warning


def test_every_light_head_config_has_a_case_for_each_part():
    found = benchmarks([Setting()])
    names = {path.stem for path in default_configs()}
    assert 'lighthead_shufflenetv2_custom' not in names
    pairs = [(each.key['config'], each.key['part']) for each in found]
    each_part = [part for part in PARTS if part != 'post-processing']
    assert {pair for pair in pairs if pair[1] != 'post-processing'} == {
        (name, part) for name in names for part in each_part
    }
    # The 20 of Table 7 share one, the two of the other recipe another.
    assert [name for name, part in pairs if part == 'post-processing'] == [
        'lighthead_shufflenetv2_x0_5',
        'lighthead_resnet101',
    ]
    assert {each.key['input'] for each in found} == {'600x400'}
    gpu = benchmarks([Setting('cuda')])
    assert {each.key['input'] for each in gpu} == {'1200x800'}
    assert {each.key['batch'] for each in gpu} == {4}


def test_networks_of_one_complexity_follow_each_other():
    found = benchmarks([Setting()], part=['network'])
    columns = [each.key['column'] for each in found]
    changes = sum(a != b for a, b in pairwise(columns))
    assert changes == len(set(columns)) - 1


@pytest.mark.parametrize(
    'name, reference',
    [
        ('lighthead_xception_x0_5', 'lighthead_shufflenetv2_x0_5'),
        ('lighthead_xception_custom', 'lighthead_shufflenetv2_custom'),
        ('lighthead_resnet50', 'lighthead_shufflenetv2'),
    ],
)
def test_reference_has_the_recipe_of_the_config(name, reference):
    assert reference_of(name) == reference


def test_table_7_names_configs_that_exist():
    names = {path.stem for path in default_configs()}
    assert len(TABLE7) == 20
    assert {*REFERENCES.values()} <= TABLE7.keys() <= names


def test_an_absent_config_is_told_before_anything_is_measured():
    configs = ['configs/lighthead_shufflenetv2.py', 'configs/no.py']
    with pytest.raises(ValueError, match=r'config not found: configs/no\.py'):
        benchmarks([Setting()], configs)


def test_another_kind_of_detector_is_refused():
    name = 'swap/fcos_se-shufflenetv2_fpn_coco'
    with pytest.raises(UserError, match='with an RPN'):
        Detector(config(name), SIZE, BATCH, Setting())


def test_the_whole_detects_what_its_parts_do(detector):
    images = detector.inputs()
    detector.inputs = lambda: images
    whole = detector.part('detection')()
    parts = detector.part('post-processing')()
    assert len(whole) == len(parts) == BATCH
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a.pred_instances.bboxes, b.bboxes)
        torch.testing.assert_close(a.pred_instances.scores, b.scores)
        assert len(b.bboxes) > 0


def test_the_network_runs_on_as_many_rois_each_time(detector):
    run = detector.part('network')
    (_, rois, first), (_, again, second) = run(), run()
    assert torch.equal(rois, again)
    assert first['cls_score'].shape == second['cls_score'].shape
    assert len(first['cls_score']) == len(rois) > BATCH


def test_about_so_many_boxes_pass_the_score_threshold():
    for classes in 3, 81:
        scores = class_scores(torch.empty(900, classes), 0.01, 1000)
        passing = (scores.softmax(1)[:, :-1] > 0.01).sum()
        assert passing == pytest.approx(1000, abs=5)


def test_end_to_end_reads_another_file_each_time(detector, monkeypatch):
    read = []
    compose = taken_apart.Compose

    class Noting(compose):
        def __call__(self, data):
            read.append(Path(data['img_path']).name)
            return super().__call__(data)

    monkeypatch.setattr(taken_apart, 'Compose', Noting)
    run = detector.part('end to end')
    results = run()
    run()
    assert read == ['0.jpg', '1.jpg', '2.jpg', '0.jpg']
    assert len(results) == BATCH
    shapes = {result.metainfo['img_shape'] for result in results}
    assert shapes == {(85, 128)}
    assert all(r.pred_instances.bboxes.device.type == 'cpu' for r in results)


def test_a_training_step_takes_gradients_and_moves_no_weight(
    detector, monkeypatch
):
    seen = []
    step = torch.optim.SGD.step

    def watched(self, *args):
        weights = self.param_groups[0]['params']
        before = [weight.clone() for weight in weights]
        seen.extend(weight.grad.isfinite().all() for weight in weights)
        step(self, *args)
        assert all(map(torch.equal, before, weights))

    monkeypatch.setattr(torch.optim.SGD, 'step', watched)
    detector.part('training step')()
    assert len(seen) == len(list(detector.model.parameters()))
    assert all(seen)


def test_sixteen_bits_run_under_autocast():
    wide = Detector(config(), (96, 64), 1, Setting(precision='bf16'))
    _, _, outputs = wide.part('network')()
    assert outputs['cls_score'].dtype == torch.bfloat16
    wide.part('detection')()
    wide.part('training step')()


def test_boxes_lie_in_their_images():
    for sample in make_samples((640, 400), (416, 640), 3, 'cpu'):
        boxes = sample.gt_instances.bboxes
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all()
        assert (boxes.amax(0) <= torch.tensor([640, 400, 640, 400])).all()


def test_the_unexplained_share_is_told():
    def row(part, time):
        return dict(
            config='c',
            batch='4',
            precision='fp32',
            status='ok',
            part=part,
            median_ms=time,
        )

    rows = [row('network', '70'), row('post-processing', '30')]
    assert summary(rows) == []
    for whole, words in (('110', '10% more time'), ('40', '60% less time')):
        (line,) = summary([*rows, row('detection', whole)])
        assert f'takes {words} than network and post-processing' in line
