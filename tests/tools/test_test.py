"""``test`` on a tiny trained detector: numbers, result files, pictures."""

import contextlib
import json
import re

import numpy as np
import pytest
from commands import CONFIG
from mmdet.evaluation.metrics import coco_metric

from mmdet_shufflenetv2 import Detector
from mmdet_shufflenetv2.data.synthetic import CLASSES
from mmdet_shufflenetv2.engine import evaluation, run_config, run_data
from mmdet_shufflenetv2.errors import UserError

PLOTS = {
    'per_class.csv',
    'pr_curves.png',
    'confusion_matrix.png',
    'worst_images.jpg',
}


def test_prints_the_twelve_numbers_and_recalls_of_as_many_as_it_says(tested):
    bbox, *_ = tested[0].partition('Evaluating proposal')
    pattern = r'Average (?:Precision|Recall).*= (-?\d\.\d+)'
    assert len(re.findall(pattern, bbox)) == 12
    assert re.search(r'maxDets=  1 \]', bbox)
    assert all(re.search(rf'\| {name} +\|', bbox) for name in CLASSES)
    # The custom config's RPN gives 300 at most.
    found = dict(re.findall(r'coco/(AR@\d+): (\S+)', tested[0]))
    assert found.keys() == {'AR@10', 'AR@100', 'AR@300'}
    recalls = [float(found[f'AR@{n}']) for n in (10, 100, 300)]
    assert recalls == sorted(recalls)
    # Detections of a network that has learnt nothing are at most 100.
    assert recalls[0] < recalls[2]


def test_result_file_gives_the_same_numbers_offline(
    tested, here, shapes, tmp_path
):
    printed, folder = tested
    again = here(
        *('test', CONFIG, folder / 'results.json', '--data-root', shapes),
        *('--work-dir', tmp_path, '--plots'),
        *('--show-dir', tmp_path / 'pictures'),
    )
    number = r'coco/(bbox_\w+|\w+_precision)"?: (-?[\d.]+)'
    found, numbers = (dict(re.findall(number, x)) for x in (again, printed))
    assert len(numbers) > 6
    assert {k: float(v) for k, v in found.items()} == {
        k: float(v) for k, v in numbers.items()
    }
    tables = [each / 'per_class.csv' for each in (folder, tmp_path)]
    assert tables[0].read_text() == tables[1].read_text()
    for path in (folder / 'pictures').iterdir():
        same = tmp_path / 'pictures' / path.name
        assert path.read_bytes() == same.read_bytes()


def test_a_run_and_a_test_leave_pictures(trained, tested, shapes):
    for folder in trained[0], tested[1]:
        assert {path.name for path in folder.iterdir()} >= PLOTS
    drawn = {p.name for p in (tested[1] / 'pictures').iterdir()}
    assert drawn == {p.name for p in (shapes / 'val').iterdir()}


def test_detector_finds_what_the_test_finds(tested, trained, shapes, tmp_path):
    """As an exported file, which is judged on the same images."""
    options = {'model.test_cfg.rcnn.score_thr': 0.0}
    path = trained[0] / 'epoch_2.pth'
    detector = Detector(path, device='cpu', cfg_options=options)
    cfg = run_config.load_config(str(CONFIG))
    run_data.use_data_root(cfg, str(shapes))
    meta = dict(dataset_meta=dict(classes=detector.classes))
    run_data.adopt_classes(cfg, dict(meta=meta))
    path = tmp_path / 'results.json'
    metric = evaluation.box_metric(cfg, detector.classes)
    evaluation.detect_test_images(cfg, detector, metric, str(path))
    ours = json.loads(path.read_text())
    theirs = json.loads((tested[1] / 'results.json').read_text())
    assert len(ours) == len(theirs)

    def row(found):
        return found['image_id'], 100 * found['score'], *found['bbox']

    # Scores of a hardly trained detector are close: order may differ.
    ours, theirs = (np.array(list(map(row, each))) for each in (ours, theirs))
    nearest = np.abs(ours[:, None] - theirs).max(2).min(1)
    assert np.mean(nearest < 2e-3) > 0.99


def test_fast_numbers_are_those_of_pycocotools(tested, shapes):
    pytest.importorskip('faster_coco_eval')
    truth = coco_metric.COCO(
        str(shapes / 'annotations' / 'instances_val.json')
    )
    found = truth.loadRes(str(tested[1] / 'results.json'))
    numbers = []
    for judges in contextlib.nullcontext(), evaluation.use_faster_coco_eval():
        with judges:
            judge = coco_metric.COCOeval(truth, found, 'bbox')
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        numbers.append([*judge.stats[:12], *judge.eval['precision'].flat])
    assert type(judge).__name__ == 'COCOeval_faster'
    np.testing.assert_allclose(*numbers, rtol=0, atol=1e-9)


def test_image_size_replaces_that_of_the_training(
    here, trained, shapes, tmp_path
):
    folder = trained[0]
    here(
        *('test', folder / CONFIG.name, folder / 'epoch_2.pth'),
        *('--data-root', shapes, '--image-size', '160x96'),
        *('--work-dir', tmp_path),
    )
    used = run_config.load_config(str(tmp_path / CONFIG.name))
    (step,) = run_config.resizing(used, 'test')
    assert tuple(step.scale) == (160, 96)


def test_proposals_are_asked_of_what_has_some(root):
    path = root / 'configs/swap/retinanet_shufflenetv2_fpn_coco.py'
    cfg = run_config.load_config(str(path))
    with pytest.raises(UserError, match=r'RetinaNet .* has none'):
        evaluation.coco_metrics(cfg, ['proposal'])


def test_result_of_an_image_that_is_not_there_is_named(here, shapes, tmp_path):
    found = dict(image_id=99, category_id=1, bbox=[1, 1, 1, 1], score=1)
    path = tmp_path / 'broken.json'
    path.write_text(json.dumps([found]))
    options = '--data-root', shapes, '--work-dir', tmp_path
    printed = here('test', CONFIG, path, *options, code=2)
    assert "got {'image_id': 99" in printed
    assert str(path) in printed
