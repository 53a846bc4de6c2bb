from itertools import chain, pairwise
from pathlib import Path

import pytest
import torch

from mmdet_shufflenetv2.engine.run_config import load_config
from mmdet_shufflenetv2.measure import detectors
from mmdet_shufflenetv2.measure.detectors import (
    PARTS,
    TimedDetector,
    column_of,
    default_configs,
    reference_of,
    seeded,
)
from mmdet_shufflenetv2.measure.published import columns
from mmdet_shufflenetv2.measure.setting import Setting

BATCH = 2


def build(name='lighthead_shufflenetv2_x0_5', threshold=0.01, **settings):
    cfg = load_config(f'configs/{name}.py')
    if 'rcnn' in cfg.model.test_cfg:
        cfg.model.test_cfg.rcnn.score_thr = threshold
    return TimedDetector(cfg, (128, 96), BATCH, Setting(**settings))


@pytest.fixture(autouse=True, scope='module')
def few():
    with pytest.MonkeyPatch.context() as patch:
        # Such small images have room for few boxes.
        patch.setattr(detectors, 'CANDIDATES', 40)
        patch.setattr(detectors, 'JPEGS', 3)
        yield


@pytest.fixture(scope='module')
def detector():
    return build()


def values(detections):
    return [
        torch.cat([d.bboxes.flatten(), d.scores, d.labels])
        for d in (getattr(d, 'pred_instances', d) for d in detections)
    ]


def test_post_processing_gets_the_same_values_for_every_network(detector):
    other = build('lighthead_xception_x0_5')
    found = [
        values(PARTS[part](each)())
        for each in (detector, other)
        for part in ('detection', 'post-processing')
    ]
    for images in zip(*found, strict=True):
        assert len(images[0])
        assert all(torch.equal(images[0], image) for image in images)
    rois = [PARTS['network'](each)()[1] for each in (detector, other)]
    assert torch.equal(*rois)
    assert len(rois[0]) > BATCH


def test_training_changes_no_weight_and_no_other_part(detector, monkeypatch):
    torch.manual_seed(7)
    fresh = build().model.state_dict()
    seen = []
    step = torch.optim.SGD.step

    def watched(self, *args):
        weights = self.param_groups[0]['params']
        before = [weight.clone() for weight in weights]
        seen.extend(weight.grad.isfinite().all() for weight in weights)
        step(self, *args)
        assert all(map(torch.equal, before, weights))

    monkeypatch.setattr(torch.optim.SGD, 'step', watched)
    PARTS['training step'](detector)()
    # Stem and norms are frozen.
    assert len(seen) > 50
    assert all(seen)
    # Values do not depend on the global seed.
    for name, value in detector.model.state_dict().items():
        assert torch.equal(value, fresh[name])
    assert not any(module.training for module in detector.model.modules())


def test_the_set_number_of_boxes_passes_the_score_threshold(detector):
    for classes in 3, 81:
        scores = seeded(torch.empty(900, classes), 2.0, 0.01)
        assert (scores.softmax(1)[:, :-1] > 0.01).sum() == 40
    assert detector.warning == ''
    assert 'all boxes pass' in build(threshold=0).warning


def test_end_to_end_reads_a_different_file_each_time(detector, monkeypatch):
    read = []

    class Noting(detectors.Compose):
        def __call__(self, data):
            read.append(Path(data['img_path']).name)
            return super().__call__(data)

    monkeypatch.setattr(detectors, 'Compose', Noting)
    run = PARTS['end to end'](detector)
    results = run()
    run()
    assert read == ['0.jpg', '1.jpg', '2.jpg', '0.jpg']
    assert {result.metainfo['img_shape'] for result in results} == {(85, 128)}
    assert all(len(result.pred_instances) for result in results)


def test_sixteen_bits_run_under_autocast():
    wide = build(precision='bf16')
    _, _, outputs = PARTS['network'](wide)()
    assert outputs['cls_score'].dtype == torch.bfloat16
    for part in PARTS:
        PARTS[part](wide)()


def test_default_configs_share_their_post_processing():
    found = set()
    for path in default_configs():
        model = load_config(str(path)).model
        head = model.roi_head.bbox_head
        settings = model.test_cfg, head.num_classes, head.reg_class_agnostic
        found.add(repr(settings))
    assert len(found) == 1


def test_post_processing_is_measured_once(asked):
    by_part = {part: [] for part in PARTS}
    for each in asked('detectors'):
        by_part[each.key['part']].append(each.key['config'])
    (shared,) = by_part.pop('post-processing')
    assert shared == reference_of(shared)
    names = {path.stem for path in default_configs()}
    assert names.issuperset(chain(*columns('Table 7').values()))
    assert all({*configs} == names for configs in by_part.values())
    # Columns come one after the other, so each reference is built once.
    found = [column_of(name) for name in by_part['network']]
    changes = sum(a != b for a, b in pairwise(found))
    assert changes == len(set(found)) - 1


def test_post_processing_of_each_named_config_is_measured(asked):
    paths = [f'configs/lighthead_shufflenetv2{x}.py' for x in ('', '_x2_0')]
    assert len(asked('detectors', *paths, '--part', 'post-processing')) == 2


def test_a_reference_has_the_column_and_the_recipe_of_the_config():
    v2 = 'lighthead_shufflenetv2'
    assert reference_of('lighthead_xception_x0_5') == f'{v2}_x0_5'
    assert reference_of('lighthead_xception_custom') == f'{v2}_custom'
    assert reference_of('lighthead_resnet50') == v2
