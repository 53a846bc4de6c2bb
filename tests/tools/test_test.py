"""``tools/test.py`` and ``tools/demo.py`` on a tiny trained detector."""

import json
import re
import shutil

import mmcv
import numpy as np
import pytest
import torch
from tiny_run import CONFIG, TINY

from mmdet_shufflenetv2 import cli
from mmdet_shufflenetv2.data.synthetic import CLASSES
from mmdet_shufflenetv2.engine import run_config
from mmdet_shufflenetv2.engine.evaluation import coco_metrics
from mmdet_shufflenetv2.errors import UserError


@pytest.fixture(scope='module')
def tested(trained, command, shapes, tmp_path_factory):
    """What one test run printed, and the folder with what it wrote."""
    folder = tmp_path_factory.mktemp('test')
    finished = command(
        'test',
        CONFIG,
        trained[0] / 'epoch_2.pth',
        '--data-root',
        shapes,
        '--work-dir',
        folder,
        '--eval',
        'bbox',
        'proposal',
        'bbox',
        '--out',
        folder / 'results.pkl',
        '--json',
        folder / 'results.json',
        '--show-dir',
        folder / 'pictures',
        '--cfg-options',
        *TINY,
        'model.test_cfg.rcnn.score_thr=0.0',
    )
    return finished.stdout + finished.stderr, folder


def coco_numbers(printed):
    return re.findall(r'Average (?:Precision|Recall).*= (-?\d\.\d+)', printed)


def test_prints_the_twelve_numbers_once_for_each_word(tested):
    bbox, *_ = tested[0].partition('Evaluating proposal')
    assert len(coco_numbers(bbox)) == 12
    assert re.search(r'maxDets=  1 \]', bbox)


def test_recall_is_that_of_as_many_proposals_as_it_says(tested):
    """The custom config's RPN gives 300 at most."""
    found = dict(re.findall(r'coco/(AR@\d+): (\S+)', tested[0]))
    assert found.keys() == {'AR@10', 'AR@100', 'AR@300'}
    recalls = [float(found[f'AR@{n}']) for n in (10, 100, 300)]
    assert recalls == sorted(recalls)
    # Detections of a network that has learnt nothing are at most 100.
    assert recalls[0] < recalls[2]


def test_result_file_gives_the_same_numbers_offline(tested, here, shapes):
    printed, folder = tested
    printed = here(
        'test',
        CONFIG,
        folder / 'results.json',
        '--data-root',
        shapes,
        '--work-dir',
        folder,
    )
    numbers = coco_numbers(printed)
    assert numbers == coco_numbers(printed.partition('Evaluating prop')[0])


def test_json_of_the_true_boxes_scores_one(here, shapes, tmp_path):
    truth = json.loads(
        (shapes / 'annotations' / 'instances_val.json').read_text()
    )
    keys = 'image_id', 'category_id', 'bbox'
    found = [
        dict({key: box[key] for key in keys}, score=1.0)
        for box in truth['annotations']
        if not box['iscrowd']
    ]
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(found))
    printed = here(
        'test',
        CONFIG,
        path,
        '--data-root',
        shapes,
        '--work-dir',
        tmp_path,
        '--eval',
        'bbox',
    )
    assert coco_numbers(printed)[0] == '1.000'


def test_pickle_gives_the_same_numbers_by_mmdets_tool(tested, shapes):
    """As tools/analysis_tools/eval_metric.py of mmdet reads it."""
    from mmdet.evaluation import CocoMetric
    from mmengine.evaluator import Evaluator
    from mmengine.fileio import load

    printed, folder = tested
    evaluator = Evaluator(
        CocoMetric(
            ann_file=str(shapes / 'annotations' / 'instances_val.json'),
            metric='bbox',
            proposal_nums=(1, 10, 100),
        )
    )
    predictions = load(str(folder / 'results.pkl'))
    evaluator.dataset_meta = dict(classes=CLASSES)
    metrics = evaluator.offline_evaluate(predictions)
    wanted = float(re.search(r'coco/bbox_mAP: (\S+)', printed)[1])
    assert metrics['coco/bbox_mAP'] == pytest.approx(wanted, abs=1e-3)


def test_draws_every_test_image(tested, shapes):
    drawn = {p.name for p in (tested[1] / 'pictures').iterdir()}
    assert drawn == {p.name for p in (shapes / 'val').iterdir()}


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main('test', [str(each) for each in arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err


RETINANET = 'configs/swap/retinanet_shufflenetv2_fpn_coco.py'


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([CONFIG, 'x.pth', '--eval', 'mask'], "invalid choice: 'mask'"),
        (
            [CONFIG, 'x.pth', '--cfg-options', 'test_dataloader=None'],
            'has no test_dataloader',
        ),
        ([CONFIG, 'results.pkl'], 'results.pkl is a pickle'),
        ([CONFIG, 'x.pth', '--out', 'r.json'], '--json writes JSON'),
        (
            [CONFIG, 'x.pth', '--out', '/proc/nothing/r.pkl'],
            'cannot write to the folder of r.pkl, /proc/nothing',
        ),
        (
            [CONFIG, 'x.pth', '--show-dir', '/proc/nothing'],
            'choose another with --show-dir',
        ),
        ([CONFIG, 'nowhere.pth'], 'nowhere.pth'),
    ],
)
def test_wrong_arguments_are_one_message(
    capsys, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)


def test_pictures_of_one_process_among_several_are_refused(
    capsys, monkeypatch
):
    monkeypatch.setenv('RANK', '0')
    arguments = CONFIG, 'x.pth', '--launcher', 'pytorch', '--show-dir', 'd'
    assert 'draw with one process' in refused(capsys, *arguments)


def test_proposals_are_asked_of_what_has_some(root, tmp_path):
    cfg = run_config.load_config(str(root / RETINANET))
    with pytest.raises(UserError, match=r'RetinaNet .* has none'):
        coco_metrics(cfg, ['proposal'])


def test_evaluators_in_a_list_are_read(root):
    cfg = run_config.load_config(str(root / CONFIG))
    dump = dict(type='DumpDetResults', out_file_path='a.pkl')
    cfg.test_evaluator = [dump, cfg.test_evaluator]
    (metric,) = coco_metrics(cfg, ['bbox'])
    assert metric.metric == 'bbox'
    assert metric.proposal_nums == (1, 10, 100)
    cfg.test_evaluator = [dump]
    with pytest.raises(UserError, match='has no CocoMetric'):
        coco_metrics(cfg, ['bbox'])


def test_checkpoint_of_other_classes_is_refused(
    trained, here, shapes, tmp_path
):
    path = tmp_path / 'other.pth'
    checkpoint = torch.load(trained[0] / 'epoch_2.pth', weights_only=True)
    checkpoint['meta']['dataset_meta']['classes'] = ('cat', 'dog')
    head = 'roi_head.bbox_head.fc_cls.weight'
    checkpoint['state_dict'][head] = torch.zeros(3, 2048)
    torch.save(checkpoint, path)
    printed = here(
        'test',
        CONFIG,
        path,
        '--data-root',
        shapes,
        '--work-dir',
        tmp_path,
        '--cfg-options',
        *TINY,
        code=2,
    )
    assert 'of which none is expected; expected are cat, dog' in (printed)


@pytest.mark.parametrize(
    'content, message',
    [
        ('{', 'cannot read'),
        ('[]', 'is not a list of at least'),
        ('[1]', 'record 0'),
    ],
)
def test_broken_result_file_is_named(here, shapes, tmp_path, content, message):
    path = tmp_path / 'broken.json'
    path.write_text(content)
    printed = here(
        'test',
        CONFIG,
        path,
        '--data-root',
        shapes,
        '--work-dir',
        tmp_path,
        code=2,
    )
    assert message in printed
    assert str(path) in printed


def test_demo_needs_checkpoint_and_images_only(
    trained, command, shapes, tmp_path
):
    images = tmp_path / 'images'
    shutil.copytree(shapes / 'val', images)
    (images / 'broken.jpg').write_bytes(b'\xff\xd8\xff no picture')
    # Resized to fit 480 x 360, it would have no height left.
    mmcv.imwrite(np.zeros((2, 3000, 3), np.uint8), str(images / 'a_line.png'))
    finished = command(
        'demo',
        images,
        CONFIG,
        trained[0] / 'epoch_2.pth',
        '--out-dir',
        tmp_path / 'drawn',
        '--score-thr',
        0.0,
        '--cfg-options',
        *TINY,
        code=1,
    )
    assert 'broken.jpg' in finished.stderr
    drawn = {p.name for p in (tmp_path / 'drawn').glob('*.png')}
    assert drawn == {p.name for p in images.glob('*.png')}
    records = json.loads((tmp_path / 'drawn' / 'detections.json').read_text())
    assert records.keys() == drawn
    first = next(iter(records.values()))[0]
    assert first['class'] in CLASSES
    assert len(first['box']) == 4


def test_demo_without_an_image_says_so(trained, here, tmp_path):
    printed = here(
        'demo',
        tmp_path,
        CONFIG,
        trained[0] / 'epoch_2.pth',
        code=2,
    )
    assert 'no image found' in printed
