import json

import pytest
from mmdet_shufflenetv2.data.checks import check_coco_file
from mmengine.config import Config, ConfigDict

from mmdet_shufflenetv2.engine import run_config, run_data
from mmdet_shufflenetv2.engine.run_config import UsageError

MAIN = 'configs/lighthead_shufflenetv2.py'


@pytest.fixture
def cfg(root):
    return run_config.load_config(str(root / MAIN))


def test_classes_reach_model_and_data_sets(cfg):
    run_data.set_classes(cfg, ('cat', 'dog'))
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    datasets = dict(run_data.datasets_of(cfg))
    assert datasets.keys() == {'train', 'val', 'test'}
    for dataset in datasets.values():
        assert dataset.metainfo.classes == ('cat', 'dog')


def test_wrapped_and_joined_data_sets_are_found():
    inner = [dict(type='CocoDataset', ann_file=name) for name in 'abc']
    cfg = Config(
        dict(
            train_dataloader=dict(
                dataset=dict(
                    type='RepeatDataset',
                    dataset=dict(type='ConcatDataset', datasets=inner[:2]),
                )
            ),
            test_dataloader=dict(dataset=inner[2]),
        )
    )
    found = [(n, d.ann_file) for n, d in run_data.datasets_of(cfg)]
    assert sorted(found) == [('test', 'c'), ('train', 'a'), ('train', 'b')]


def test_checkpoint_classes_are_adopted_only_if_the_data_has_them(
    cfg, tmp_path, monkeypatch
):
    said = []
    monkeypatch.setattr(
        run_data, 'print_log', lambda text, *_: said.append(text)
    )
    path = tmp_path / 'annotations.json'
    names = [dict(id=i, name=n) for i, n in enumerate(('cat', 'dog'))]
    path.write_text(
        json.dumps(dict(images=[], annotations=[], categories=names))
    )
    dataset = dict(run_data.datasets_of(cfg))['test']
    dataset.data_root, dataset.ann_file = '', str(path)

    def checkpoint(*classes):
        return dict(meta=dict(dataset_meta=dict(classes=classes)))

    run_data.adopt_classes(cfg, checkpoint('cow'))
    assert cfg.model.roi_head.bbox_head.num_classes == 80
    run_data.adopt_classes(cfg, checkpoint('dog', 'cat'))
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    assert dataset.metainfo.classes == ('dog', 'cat')
    assert said == []
    run_data.adopt_classes(cfg, checkpoint('dog'))
    assert '1 of the 2 classes' in said[0]
    run_data.adopt_classes(cfg, checkpoint('Katze', 'Hund'))
    assert 'in this order: Katze = cat, Hund = dog' in said[1]


def test_missing_data_set_says_what_is_expected_and_how_to_get_it(tmp_path):
    with pytest.raises(UsageError) as error:
        run_data.require_data('train', 'a.json', str(tmp_path), 'data/coco/')
    message = str(error.value)
    assert 'a.json' in message
    assert str(tmp_path) not in message  # The image folder is there.
    assert 'tools/prepare_coco.py --data-root data/coco/' in message
    assert '--data-root DIR' in message


def test_images_too_small_for_the_config_are_told_and_one_must_be_left(
    monkeypatch,
):
    said = []
    monkeypatch.setattr(
        run_data, 'print_log', lambda text, *_: said.append(text)
    )
    images = [
        dict(id=i, file_name=f'{i}.png', width=width, height=40)
        for i, width in enumerate((31, 20, 32))
    ]
    box = dict(category_id=1, bbox=[0, 0, 9, 9], area=81, iscrowd=0)
    data = dict(
        images=images,
        annotations=[dict(box, id=i, image_id=i) for i in (1, 2)],
        categories=[dict(id=1, name='cat')],
    )
    dataset = ConfigDict(filter_cfg=dict(filter_empty_gt=True, min_size=32))
    report = check_coco_file('a.json', data=data)
    run_data.require_images_left(dataset, report)
    assert '2 of the 3 images of a.json' in said[0]
    del data['annotations'][1]
    report = check_coco_file('a.json', data=data)
    with pytest.raises(UsageError, match=r'no image of a\.json is left'):
        run_data.require_images_left(dataset, report)
    run_data.require_images_left(ConfigDict(dataset, test_mode=True), report)
    run_data.require_images_left(ConfigDict(), report)
