"""A run's data sets, metrics, class lists, and its folder."""

import copy
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from coco_files import BOX, put
from mmdet.registry import METRICS
from mmengine.config import Config, ConfigDict

from mmdet_shufflenetv2.data.reading import read_boxes
from mmdet_shufflenetv2.data.table import DatasetError
from mmdet_shufflenetv2.engine import evaluation, run_data, run_dir
from mmdet_shufflenetv2.errors import UserError

WHITE = np.full((30, 40, 3), 255, np.uint8)


def write(root, split, count=10, **options):
    names = [f'{i}.png' for i in range(count)]
    put(root, f'{split}.json', split, names, **options)


@pytest.fixture
def data(tmp_path):
    for split in 'train', 'val':
        write(tmp_path / 'data', split)
    return tmp_path / 'data'


@pytest.fixture
def cfg(load, tmp_path):
    cfg = load('configs/lighthead_shufflenetv2.py')
    cfg.work_dir = str(tmp_path)
    return cfg


@pytest.fixture
def pointed(cfg, data):
    """A user's config that names COCO files of cats and dogs."""
    run_data.set_classes(cfg, ('cat', 'dog'))
    for name, dataset in run_data.datasets_of(cfg):
        split = 'train' if name == 'train' else 'val'
        dataset.update(
            type='CocoDataset',
            data_root=f'{data}/',
            ann_file=f'{split}.json',
            data_prefix=dict(img=f'{split}/'),
        )
    for _, metric in run_data.metrics_of(cfg):
        metric.update(type='CocoMetric', ann_file=f'{data}/val.json')
    return cfg


def check(cfg, *splits):
    return run_data.check_data(cfg, splits or ('train', 'val'))


def join(cfg, second, split='train'):
    """Let a config train on two data sets."""
    loader = cfg[f'{split}_dataloader']
    joined = dict(type='ConcatDataset', datasets=[loader.dataset, second])
    loader.dataset = ConfigDict(joined)


@pytest.mark.parametrize(
    'kind', ['BoxMetric', 'mmdet.CocoMetric', 'mmdet.VOCMetric', 'test']
)
def test_a_folder_reaches_data_sets_metrics_and_classes(cfg, data, kind):
    join(cfg, dict(cfg.train_dataloader.dataset))
    if kind == 'test':  # The config that an earlier test has saved.
        metrics = evaluation.coco_metrics(cfg, ['proposal', 'bbox'])
        cfg.test_evaluator = metrics
    else:
        cfg.test_evaluator.type = kind
    run_data.use_data_root(cfg, str(data))
    # Joined data sets are not the same data twice.
    (table,) = check(cfg)['train']
    assert table.classes == ('cat', 'dog')
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    datasets = dict(run_data.datasets_of(cfg))
    assert datasets['train'].ann_file == str(data / 'train.json')
    assert datasets['val'].data_prefix.img == str(data)
    for _, metric in run_data.metrics_of(cfg):
        assert metric.type == 'BoxMetric'
        assert metric.ann_file == str(data / 'val.json')
    # All of it survives being saved with the run.
    Config.fromstring(cfg.pretty_text, '.py')


def test_every_joined_data_set_is_checked(pointed, data):
    """The tables of all but the last one were lost."""
    # One that is there for its backgrounds.
    write(data, 'more', annotations=[])
    first = pointed.train_dataloader.dataset
    more = dict(ann_file='more.json', data_prefix=dict(img='more/'))
    join(pointed, dict(first, **more))
    tables = check(pointed, 'train')['train']
    assert [Path(t.source.ann).stem for t in tables] == ['train', 'more']
    assert [len(table.boxes) for table in tables] == [10, 0]


def test_held_out_part_is_written_down_and_kept(cfg, data):
    def listed(name):
        text = Path(cfg.work_dir, f'{name}.txt').read_text()
        return [Path(line).name for line in text.splitlines()]

    def names(source):
        return read_boxes(source).names

    def use():
        run_data.use_data_root(cfg, str(data))
        run_data.note_data(cfg, run_dir.data_of(cfg))

    (data / 'val.json').unlink()
    use()
    train, val = listed('train'), listed('val')
    assert (len(train), len(val)) == (8, 2)
    assert not {*train} & {*val}
    for name, dataset in run_data.datasets_of(cfg):
        chosen = train if name == 'train' else val
        assert names(run_data.source_of(dataset)) == sorted(chosen)
    # More data must not change sides when the run goes on.
    write(data, 'train', count=30)
    cfg.resume = True
    use()
    assert listed('val') == val
    # Nor may a test of its checkpoint measure on what it was trained on.
    folder = cfg.work_dir
    run_data.use_data_root(cfg, str(data), ('test',), run_dir=folder)
    test = dict(run_data.datasets_of(cfg))['test']
    assert names(run_data.source_of(test)) == sorted(val)
    # A new run in the same folder has lists of its own.
    cfg.resume = False
    use()
    assert len(listed('val')) == 6
    # Without the note of a run, the list is the user's own.
    Path(cfg.work_dir, 'data.json').unlink()
    with pytest.raises(UserError, match='exists, but not from a run'):
        use()


def test_coco_configs_are_judged_by_the_same_table(pointed):
    """Annotation ids count from 0, on the road of any COCO config."""
    tables = check(pointed)
    assert pointed.val_evaluator.type == 'BoxMetric'
    source = run_data.source_of(pointed.val_dataloader.dataset)
    assert source == tables['val'][0].source


def test_results_files_are_judged_by_class_whatever_its_number(
    pointed, data, tmp_path
):
    """The cats, of number 9, had the precision of the dogs, of number 8."""
    check(pointed, 'test')
    found = [
        dict(image_id=i, category_id=9, bbox=BOX, score=0.9)
        for i in range(0, 10, 2)
    ]
    path = tmp_path / 'found.json'
    path.write_text(json.dumps(found))
    numbers = evaluation.box_metric(pointed).evaluate_file(str(path))
    assert numbers['coco/cat_precision'] == 1
    assert numbers['coco/dog_precision'] == 0


@pytest.mark.parametrize('most', [1, 10, 50])
def test_recall_of_few_proposals(pointed, most):
    check(pointed, 'test')
    pointed.model.test_cfg.rpn.max_per_img = most
    (config,) = evaluation.coco_metrics(pointed, ['proposal'])
    metric = METRICS.build(config)
    boxes = torch.tensor([BOX]), torch.ones(1), torch.zeros(1, dtype=int)
    found = dict(zip(('bboxes', 'scores', 'labels'), boxes, strict=True))
    sample = dict(img_id=0, ori_shape=(30, 40), proposals=found)
    metric.process({}, [sample])
    assert f'coco/AR@{most}' in metric.evaluate(1)


def test_masks_stay_with_mmdet_and_id_0_is_refused(pointed, data):
    masks = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
    for _, dataset in run_data.datasets_of(pointed):
        dataset.pipeline = [masks]
    pointed.val_evaluator.metric = ['bbox', 'segm']
    with pytest.raises(UserError, match='annotation of id 0'):
        check(pointed)
    write(data, 'val', first_id=1)
    check(pointed)
    assert pointed.val_dataloader.dataset.type == 'CocoDataset'
    assert pointed.val_evaluator.type == 'CocoMetric'
    # Pictures of its boxes can be drawn.
    files = evaluation.box_metric(pointed).table.files
    assert files[3] == str(data / 'val' / '3.png')
    # A folder of boxes once ended in a KeyError of the first batch.
    with pytest.raises(UserError, match=r'boxes, but .* needs masks'):
        run_data.use_data_root(pointed, str(data))


def test_coco_config_on_other_categories_is_refused(pointed, data):
    """It silently trained on person alone."""
    for split in 'train', 'val':
        write(data, split, classes=('person', 'helmet'))
    for _, dataset in run_data.datasets_of(pointed):
        dataset.pop('metainfo', None)
    with pytest.raises(UserError, match=r'helmet \(5 boxes\)'):
        check(pointed)
    # Leaving classes out on purpose is possible, and said.
    run_data.set_classes(pointed, ('person',))
    check(pointed)


@pytest.mark.parametrize(
    'split, metainfo, message',
    [
        ('val', dict(classes=('dog', 'cat')), 'differ in classes'),
        ('train', dict(CLASSES=('cat', 'dog')), 'MMDetection 3 ignores'),
        ('train', dict(classes=('cow',)), 'classes cow, got cat, dog'),
    ],
)
def test_class_lists_that_differ_are_named(pointed, split, metainfo, message):
    pointed[f'{split}_dataloader'].dataset.metainfo = metainfo
    with pytest.raises(UserError, match=message):
        check(pointed)


def test_number_of_classes_that_differs_is_named(pointed):
    pointed.model.roi_head.bbox_head.num_classes = 3
    with pytest.raises(UserError, match=r'has 2 classes .*num_classes=3'):
        check(pointed)


def test_checkpoint_classes_are_matched_by_name(pointed, monkeypatch):
    said = []
    monkeypatch.setattr(run_data, 'say_once', said.append)

    def adopt(*classes):
        meta = dict(dataset_meta=dict(classes=classes))
        run_data.adopt_classes(pointed, dict(meta=meta))

    adopt('dog', 'cow', 'cat')
    assert pointed.model.roi_head.bbox_head.num_classes == 3
    metainfo = dict(run_data.datasets_of(pointed))['test'].metainfo
    assert metainfo.classes == ('dog', 'cow', 'cat')
    assert said == []
    check(pointed, 'test')
    adopt('dog')
    assert 'cat (5 boxes)' in said[0]
    # As many others by other names are not taken to be the same.
    with pytest.raises(DatasetError, match='Katze, Hund'):
        adopt('Katze', 'Hund')


def test_evaluators_as_lists_and_no_prefix(pointed, data):
    other = dict(type='DumpDetResults', out_file_path='x.pkl')
    pointed.val_evaluator = [pointed.val_evaluator, other]
    dataset = pointed.val_dataloader.dataset
    # Without a folder of images they are next to the file.
    del dataset['data_prefix']
    shutil.copy(data / 'val.json', data / 'val' / 'boxes.json')
    dataset.update(data_root='', ann_file=str(data / 'val' / 'boxes.json'))
    pointed.val_evaluator[0].ann_file = dataset.ann_file
    tables = check(pointed)
    assert tables['val'][0].files[3] == str(data / 'val' / '3.png')
    types = [metric.type for metric in pointed.val_evaluator]
    assert types == ['BoxMetric', 'DumpDetResults']


def test_other_formats_are_not_read_as_coco(pointed):
    """Any data set with an ann_file was."""
    pointed.train_dataloader.dataset.type = 'XMLDataset'
    assert check(pointed).keys() == {'val'}
    assert pointed.train_dataloader.dataset.type == 'XMLDataset'


def test_evaluator_of_another_file_is_named(pointed, data):
    write(data, 'other', count=3)
    joined = copy.deepcopy(pointed)
    pointed.val_evaluator.ann_file = str(data / 'other.json')
    # One of two files would be judged by the other's ids too.
    more = dict(ann_file='other.json', data_prefix=dict(img='other/'))
    join(joined, dict(joined.val_dataloader.dataset, **more), 'val')
    for each in pointed, joined:
        with pytest.raises(UserError, match=r'evaluator reads .*other\.json'):
            check(each, 'val')
    # The same file by another name is the same file.
    pointed.val_evaluator.ann_file = f'{data}/train/../val.json'
    check(pointed)


@pytest.mark.parametrize('kind', [DatasetError, OSError])
def test_first_process_reads_and_the_others_get_it(monkeypatch, kind):
    """Of two processes; what is broadcast is what the second one gets."""
    sent = []

    def fail():
        raise kind('x.json cannot be read')

    def receive(data):
        data[:] = sent.pop(0)

    def be(is_main, broadcast):
        monkeypatch.setattr(run_data, 'is_main_process', lambda: is_main)
        monkeypatch.setattr(run_data, 'broadcast_object_list', broadcast)

    monkeypatch.setattr(run_data, 'is_distributed', lambda: True)
    be(True, lambda data: sent.append(list(data)))
    assert run_data.once_per_run(lambda: 'table') == 'table'
    with pytest.raises(kind):
        run_data.once_per_run(fail)
    be(False, receive)
    assert run_data.once_per_run(pytest.fail) == 'table'
    with pytest.raises(kind, match=r'x\.json'):
        run_data.once_per_run(pytest.fail)


def test_runs_are_numbered_and_never_share_a_folder(tmp_path):
    base = str(tmp_path / 'runs' / 'mine')
    begin_one = partial(run_dir.new_folder, claim=run_dir.NOTE)
    with ThreadPoolExecutor() as pool:
        made = map(str, pool.map(begin_one, [base] * 11))
    names = [base, *(f'{base}-{number}' for number in range(2, 12))]
    assert sorted(made) == sorted(names)
    # 11 comes after 9, and other names are not of this one.
    (tmp_path / 'runs' / 'mine-tall').mkdir()
    assert list(map(str, run_dir.find_runs(base))) == names[::-1]
    # Where a test has left its log, no run was.
    base = tmp_path / 'other'
    (base / run_dir.TESTS).mkdir(parents=True)
    assert run_dir.new_folder(str(base)) == base
    with pytest.raises(UserError, match='cannot write to the folder /proc'):
        run_dir.new_folder('/proc/nothing/mine')


@pytest.mark.parametrize(
    'change, is_same',
    [
        (lambda d: d.rename(d.with_name('moved')), True),
        (lambda d: cv2.imwrite(f'{d}/images/0.png', WHITE), True),
        (lambda d: (d / 'labels/0.txt').write_text('1 0.5 0.5 1 1'), False),
        (lambda d: (d / 'labels/0.txt').unlink(), False),
        (lambda d: cv2.imwrite(f'{d}/images/more.png', WHITE), False),
        (lambda d: (d / 'data.yaml').write_text('names: [dog, cat]'), False),
    ],
)
def test_run_to_resume_is_told_by_names_and_labels(tmp_path, change, is_same):
    folder = tmp_path / 'yolo'
    for name in 'images', 'labels':
        (folder / name).mkdir(parents=True)
    for i in range(2):
        cv2.imwrite(f'{folder}/images/{i}.png', 0 * WHITE)
        (folder / f'labels/{i}.txt').write_text('0 0.5 0.5 1 1')
    (folder / 'data.yaml').write_text('names: [cat, dog]')

    def digest():
        (root,) = tmp_path.iterdir()
        dataset = dict(
            type='BoxDataset',
            ann_file=f'{root}/data.yaml',
            data_prefix=dict(img=f'{root}/images'),
        )
        cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
        return run_dir.data_of(cfg)[0]['digest']

    before = digest()
    change(folder)
    assert (digest() == before) == is_same


def test_annotations_are_not_read_again_to_identify_them(pointed, monkeypatch):
    check(pointed)
    monkeypatch.setattr(Path, 'read_bytes', pytest.fail)
    assert len(run_dir.data_of(pointed)) == 1


def test_checkpoints_of_other_data_are_not_resumed(saved):
    now, cfg = [dict(path='now', digest='1')], Config(dict(work_dir=''))

    def resume(**known):
        path = saved({}, trained_on=[dict(path='then', **known)])
        return run_dir.choose_run_dir(cfg, now, None, None, path)

    # Older versions recorded a digest of the files.
    assert resume(digest='1') == resume(sha256='2')
    with pytest.raises(UserError, match=r'not trained on now(.|\n)*: then'):
        resume(digest='2')
