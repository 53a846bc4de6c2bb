import json

import pytest
from mmengine.config import Config

from mmdet_shufflenetv2.engine import run_config
from mmdet_shufflenetv2.engine.run_config import UsageError

MAIN = 'configs/lighthead_shufflenetv2.py'


@pytest.fixture
def cfg(root):
    return run_config.load_config(str(root / MAIN))


def test_absent_config_is_named():
    with pytest.raises(UsageError, match='config not found: nowhere'):
        run_config.load_config('nowhere.py')


def test_configs_of_installed_packages_are_read():
    cfg = run_config.load_config(
        'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
    )
    assert cfg.model.type == 'RetinaNet'
    assert cfg.work_dir == 'work_dirs/retinanet_r50_fpn_1x_coco'


@pytest.mark.parametrize('path', ['mmdet::nowhere.py', 'mmnone::a.py'])
def test_absent_configs_of_packages_are_named(path):
    with pytest.raises(UsageError, match=f'config not found: {path}'):
        run_config.load_config(path)


@pytest.mark.parametrize(
    'text, words',
    [
        ('x = 1\ny = x / 0\n', 'ZeroDivisionError at line 2: division by'),
        ('model = dict(\n', 'SyntaxError: .* line 1'),
        ("_base_ = 'absent.py'\n", 'FileNotFoundError: .*absent.py'),
        # Not run: what is imported in a config without `read_base` is lazy.
        ("import os\nos.system('touch x')\n", 'RuntimeError at line 2$'),
    ],
)
def test_a_file_that_is_no_config_is_told_as_such(tmp_path, text, words):
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(UsageError, match=f'as a config: {words}'):
        run_config.load_config(str(path))


def test_options_and_work_dir_override_the_file(root):
    cfg = run_config.load_config(
        str(root / MAIN), {'model.neck.act_each': True}, 'elsewhere'
    )
    assert cfg.model.neck.act_each is True
    assert cfg.work_dir == 'elsewhere'


def test_option_that_nobody_reads_is_refused_with_what_is_like_it(root):
    with pytest.raises(UsageError) as error:
        run_config.load_config(
            str(root / MAIN), {'train_dataloadr.batch_size': 4}
        )
    assert "'train_dataloadr' is neither" in str(error.value)
    assert "did you mean 'train_dataloader'?" in str(error.value)


def test_option_of_the_runner_that_the_config_lacks_is_taken(root):
    cfg = run_config.load_config(
        str(root / MAIN), {'randomness.deterministic': True}
    )
    assert cfg.randomness.deterministic is True


def test_work_dir_is_called_like_the_config(cfg):
    assert cfg.work_dir == 'work_dirs/lighthead_shufflenetv2'


def test_tools_read_images_strictly_and_files_name_mmdets_loading(root, cfg):
    stored = Config.fromfile(root / MAIN)
    for name, dataset in run_config.datasets_of(stored):
        assert dataset.pipeline[0].type == 'LoadImageFromFile', name
    for name, dataset in run_config.datasets_of(cfg):
        assert dataset.pipeline[0].type == 'mmdet.LoadImageStrict', name


def test_folder_that_cannot_be_written_is_named_with_its_option():
    with pytest.raises(UsageError) as error:
        run_config.require_writable('/proc/nothing', 'folder', '--out-dir')
    assert 'cannot write to the folder /proc/nothing' in str(error.value)
    assert '--out-dir' in str(error.value)


def test_classes_reach_model_and_data_sets(cfg):
    run_config.set_classes(cfg, ('cat', 'dog'))
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    datasets = dict(run_config.datasets_of(cfg))
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
    found = [(n, d.ann_file) for n, d in run_config.datasets_of(cfg)]
    assert sorted(found) == [('test', 'c'), ('train', 'a'), ('train', 'b')]


def test_checkpoint_classes_are_adopted_only_if_the_data_has_them(
    cfg, tmp_path, monkeypatch
):
    said = []
    monkeypatch.setattr(
        run_config, 'print_log', lambda text, *_: said.append(text)
    )
    path = tmp_path / 'annotations.json'
    names = [dict(id=i, name=n) for i, n in enumerate(('cat', 'dog'))]
    path.write_text(
        json.dumps(dict(images=[], annotations=[], categories=names))
    )
    dataset = dict(run_config.datasets_of(cfg))['test']
    dataset.data_root, dataset.ann_file = '', str(path)

    def checkpoint(*classes):
        return dict(meta=dict(dataset_meta=dict(classes=classes)))

    run_config.adopt_classes(cfg, checkpoint('cow'))
    assert cfg.model.roi_head.bbox_head.num_classes == 80
    run_config.adopt_classes(cfg, checkpoint('dog', 'cat'))
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    assert dataset.metainfo.classes == ('dog', 'cat')
    assert said == []
    run_config.adopt_classes(cfg, checkpoint('dog'))
    assert '1 of the 2 classes' in said[0]


def test_missing_data_set_says_what_is_expected_and_how_to_get_it(tmp_path):
    with pytest.raises(UsageError) as error:
        run_config.require_data('train', 'a.json', str(tmp_path), 'data/coco/')
    message = str(error.value)
    assert 'a.json' in message
    assert str(tmp_path) not in message  # The image folder is there.
    assert 'tools/prepare_coco.py --data-root data/coco/' in message
    assert '--data-root DIR' in message
