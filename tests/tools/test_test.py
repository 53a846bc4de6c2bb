"""``tools/test.py`` and ``tools/demo.py`` on a tiny trained detector."""

import json
import re
import shutil

import mmcv
import numpy as np
import pytest
import torch
from tiny_run import CONFIG, TINY

from mmdet_shufflenetv2.data.synthetic import CLASSES


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
    bbox, _, proposal = tested[0].partition('Evaluating proposal')
    assert len(coco_numbers(bbox)) == 12
    assert len(coco_numbers(proposal)) == 12
    assert re.search(r'maxDets=  1 \]', bbox)


@pytest.mark.parametrize('name', ['results.json', 'results.pkl'])
def test_result_file_gives_the_same_numbers_offline(
    tested, command, shapes, name
):
    printed, folder = tested
    finished = command(
        'test',
        CONFIG,
        folder / name,
        '--data-root',
        shapes,
        '--work-dir',
        folder,
        '--eval',
        'bbox',
        'proposal',
    )
    numbers = coco_numbers(finished.stdout + finished.stderr)
    assert numbers == coco_numbers(printed)


def test_json_of_the_true_boxes_scores_one(command, shapes, tmp_path):
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
    finished = command(
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
    assert coco_numbers(finished.stdout + finished.stderr)[0] == '1.000'


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


def test_other_word_for_eval_is_refused(command):
    finished = command('test', CONFIG, 'x.pth', '--eval', 'mask', code=2)
    assert "invalid choice: 'mask'" in finished.stderr
    assert 'bbox' in finished.stderr


def test_a_config_without_test_data_is_refused(command):
    options = ('--cfg-options', 'test_dataloader=None')
    finished = command('test', CONFIG, 'x.pth', *options, code=2)
    assert finished.stderr.startswith('error: ')
    assert 'has no test_dataloader' in finished.stderr


def test_pictures_of_one_process_among_several_are_refused(
    command, monkeypatch
):
    monkeypatch.setenv('RANK', '0')
    finished = command(
        'test',
        CONFIG,
        'x.pth',
        '--launcher',
        'pytorch',
        '--show-dir',
        'pictures',
        code=2,
    )
    assert 'draw without --launcher' in finished.stderr


@pytest.mark.parametrize(
    'option, name',
    [('--out', 'r.pkl'), ('--json', 'r.json'), ('--show-dir', 'pictures')],
)
def test_output_that_cannot_be_written_is_refused_before_the_run(
    command, tmp_path, option, name
):
    path = f'/proc/nothing/{name}'
    finished = command(
        'test',
        CONFIG,
        'no_checkpoint_yet.pth',
        '--work-dir',
        tmp_path,
        option,
        path,
        code=2,
    )
    assert 'cannot write to the folder' in finished.stderr
    assert '/proc/nothing' in finished.stderr
    assert f'choose another with {option}' in finished.stderr
    assert 'Traceback' not in finished.stderr


def test_checkpoint_of_other_classes_is_refused(
    trained, command, shapes, tmp_path
):
    path = tmp_path / 'other.pth'
    checkpoint = torch.load(trained[0] / 'epoch_2.pth', weights_only=True)
    checkpoint['meta']['dataset_meta']['classes'] = ('cat', 'dog')
    head = 'roi_head.bbox_head.fc_cls.weight'
    checkpoint['state_dict'][head] = torch.zeros(3, 2048)
    torch.save(checkpoint, path)
    finished = command(
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
    assert 'of which none is expected; expected are cat, dog' in (
        finished.stderr
    )


@pytest.mark.parametrize(
    'content, message',
    [('{', 'cannot read'), ('[]', 'no list of results'), ('[1]', 'record 0')],
)
def test_broken_result_file_is_named(
    command, shapes, tmp_path, content, message
):
    path = tmp_path / 'broken.json'
    path.write_text(content)
    finished = command(
        'test',
        CONFIG,
        path,
        '--data-root',
        shapes,
        '--work-dir',
        tmp_path,
        code=2,
    )
    assert message in finished.stderr
    assert str(path) in finished.stderr


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


def test_demo_without_an_image_says_so(trained, command, tmp_path):
    finished = command(
        'demo',
        tmp_path,
        CONFIG,
        trained[0] / 'epoch_2.pth',
        code=2,
    )
    assert 'no image found' in finished.stderr
