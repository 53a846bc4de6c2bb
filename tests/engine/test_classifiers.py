"""A classifier's config and its data: found, checked, or refused."""

import re
from argparse import Namespace

import pytest
import torch
from torchvision import models

from mmdet_shufflenetv2.compat.input_format import NORMALISED_RGB, RAW_BGR
from mmdet_shufflenetv2.data.class_folders import imagenet_synsets
from mmdet_shufflenetv2.data.synthetic import ClassificationSet, write_set
from mmdet_shufflenetv2.data.table import DatasetError
from mmdet_shufflenetv2.engine import (
    checkpoint_meta,
    classifiers,
    run_config,
    run_data,
    tasks,
)
from mmdet_shufflenetv2.engine.weights import use_backbone_weights
from mmdet_shufflenetv2.errors import UserError

CLASSIFIER = 'configs/pretrain.py'
DETECTOR = 'configs/lighthead_shufflenetv2_x0_5.py'
CLASSES = ('circle', 'cross', 'ring', 'square', 'star', 'triangle')


@pytest.fixture
def crops(tmp_path):
    folder = tmp_path / 'crops'
    write_set(folder, ClassificationSet(train=1, val=1, size=64))
    return folder


@pytest.fixture
def load(root):
    def read(path):
        network = 'shufflenet_v2_x0_5' if path == CLASSIFIER else None
        return run_config.load_config(str(root / path), network=network)

    return read


def arguments(config=CLASSIFIER, **given) -> Namespace:
    return Namespace(config=config, **given)


@pytest.fixture
def on_crops(load, crops):
    """A classifier's config pointed to the small set, and its task."""
    cfg = load(CLASSIFIER)
    args = arguments(data_root=str(crops))
    task = tasks.task_of(cfg, args)
    task.use_data_root(cfg, args)
    return cfg, task, args


def test_data_root_sets_folders_and_classes(on_crops, crops):
    cfg, task, args = on_crops
    assert cfg.model.head.num_classes == 6
    for name, dataset in run_data.datasets_of(cfg):
        assert dataset.type == 'CustomDataset'
        assert dataset.metainfo.classes == CLASSES
        assert dataset.data_root == str(crops)
        assert dataset.data_prefix == ('train' if name == 'train' else 'val')
    task.check_data(cfg, ('train', 'val'), args)


def test_absent_folder_says_what_is_expected(load, tmp_path):
    cfg = load(CLASSIFIER)
    for _, dataset in run_data.datasets_of(cfg):
        dataset.data_root = str(tmp_path)
    with pytest.raises(UserError) as error:
        classifiers.check_data(cfg, ('train', 'val'), arguments())
    assert f'{tmp_path}/train/<class>/<image>' in str(error.value)
    assert 'mmdet_shufflenetv2 synthetic' in str(error.value)


def test_imagenet_needs_its_synsets(load, crops):
    cfg = load(CLASSIFIER)
    for _, dataset in run_data.datasets_of(cfg):
        dataset.data_root = str(crops)
    with pytest.raises(DatasetError) as error:
        classifiers.check_data(cfg, ('train', 'val'), arguments())
    assert '1000 x missing class folder' in str(error.value)
    assert 'n01440764' in str(error.value)


@pytest.fixture
def renamed(crops):
    """Give the classes of the small set other names, in their order."""

    def rename(*names: str) -> str:
        for split in 'train', 'val':
            for old, new in zip(CLASSES, names, strict=True):
                (crops / split / old).rename(crops / split / new)
        return str(crops)

    return rename


SIX_SYNSETS = imagenet_synsets()[:6]


@pytest.mark.parametrize(
    'names, found',
    [
        (SIX_SYNSETS, ["6 of ImageNet's 1000 synsets", '0 other']),
        (
            # A folder left over from elsewhere hides no stopped copy.
            (*SIX_SYNSETS[:5], 'zz_old'),
            ['5 of', '1 other folders'],
        ),
    ],
)
def test_a_part_of_imagenet_has_to_be_meant(load, renamed, names, found):
    folder = renamed(*names)
    with pytest.raises(UserError) as error:
        classifiers.use_data_root(
            load(CLASSIFIER), arguments(data_root=folder)
        )
    for part in found:
        assert part in str(error.value)
    cfg = load(CLASSIFIER)
    _, _, option = str(error.value).partition('--cfg-options ')
    cfg.merge_from_dict(dict([option.split('=')]))
    classifiers.use_data_root(cfg, arguments(data_root=folder))
    assert cfg.model.head.num_classes == 6


def test_a_few_synsets_among_other_classes_are_ones_own(load, renamed):
    cfg = load(CLASSIFIER)
    folder = renamed(*SIX_SYNSETS[:3], 'x', 'y', 'z')
    classifiers.use_data_root(cfg, arguments(data_root=folder))
    assert cfg.model.head.num_classes == 6


def test_training_without_validation_needs_no_such_data(on_crops):
    cfg, task, args = on_crops
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    task.check_data(cfg, ('train', 'val'), args)


def test_class_that_only_one_split_has_is_named(on_crops, crops):
    cfg, task, args = on_crops
    (crops / 'val' / 'star').rename(crops / 'val' / 'moon')
    with pytest.raises(DatasetError, match='moon'):
        task.check_data(cfg, ('train', 'val'), args)
    with pytest.raises(DatasetError, match='moon'):
        task.check_data(cfg, ('test',), args)


def test_corrupt_image_is_named_before_training(on_crops, crops):
    cfg, task, args = on_crops
    path = next((crops / 'train' / 'star').iterdir())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match=f'image {path} is truncated'):
        task.check_data(cfg, ('train', 'val'), args)


def test_another_number_of_classes_is_refused(on_crops):
    cfg, task, args = on_crops
    cfg.model.head.num_classes = 1000
    with pytest.raises(UserError, match=r'has 6 classes.*num_classes=1000'):
        task.check_data(cfg, ('train', 'val'), args)


def test_checkpoints_classes_reach_model_and_data(load):
    cfg = load('configs/demo/pretrain_shufflenetv2_shapes.py')
    meta = dict(dataset_meta=dict(classes=('cat', 'dog')))
    classifiers.adopt_classes(cfg, dict(meta=meta))
    assert cfg.model.head.num_classes == 2
    test = dict(run_data.datasets_of(cfg))['test']
    assert test.metainfo.classes == ('cat', 'dog')


def test_published_error_is_for_imagenet_alone(load, on_crops):
    metric = classifiers.metrics(load(CLASSIFIER), ['error'], published=39.7)
    assert metric[0].published == {1: 39.7}
    metric = classifiers.metrics(on_crops[0], ['error'], published=39.7)
    assert 'published' not in metric[0]


@pytest.mark.parametrize(
    'backbone, published',
    [
        (dict(norm_eval=True, init_cfg=dict(type='Pretrained')), {1: 39.7}),
        (dict(style='authors'), {1: 39.7}),
        (dict(widen_factor=0.5), {1: 39.7}),
        (dict(widen_factor=1.0), None),
        (dict(with_se=True), None),
        (dict(strides=(2, 2, 1)), None),
    ],
)
def test_published_error_is_for_the_published_network_alone(
    load, backbone, published
):
    cfg = load(CLASSIFIER)
    cfg.model.backbone.update(backbone)
    (metric,) = classifiers.metrics(cfg, ['error'], published=39.7)
    assert metric.get('published') == published


@pytest.mark.parametrize(
    'config, given, message',
    [
        (
            CLASSIFIER,
            dict(eval=['bbox']),
            '--eval bbox is not for; --eval takes error',
        ),
        (
            DETECTOR,
            dict(eval=['error']),
            '--eval error is not for; --eval takes bbox',
        ),
        (CLASSIFIER, dict(train_ann='a'), 'a classifier, which --train-ann'),
        (CLASSIFIER, dict(on_bad_boxes='drop'), '--on-bad-boxes is not for'),
        (CLASSIFIER, dict(from_checkpoint='a'), '--from is not for'),
        (CLASSIFIER, dict(checkpoint='a.json'), 'a.json is not for'),
        (DETECTOR, dict(network='a'), 'a detector, which --network'),
    ],
)
def test_words_of_the_other_task_are_refused(load, config, given, message):
    with pytest.raises(UserError, match=re.escape(message)):
        tasks.task_of(load(config), arguments(config, **given))


@pytest.mark.parametrize(
    'config, words', [(CLASSIFIER, ['error']), (DETECTOR, ['bbox'])]
)
def test_eval_has_a_default_for_each_task(load, config, words):
    args = arguments(config, eval=None)
    tasks.task_of(load(config), args)
    assert args.eval == words


def test_without_mmpretrain_one_line_says_what_to_install(load, monkeypatch):
    monkeypatch.setattr(run_config, 'find_spec', lambda name: None)
    with pytest.raises(UserError) as error:
        load(CLASSIFIER)
    assert 'pip install mmpretrain==1.2.0' in str(error.value)
    assert '\n' not in str(error.value)
    # Detection does without.
    assert load(DETECTOR).model.type == 'LightHeadRCNN'


@pytest.mark.parametrize('config', [CLASSIFIER, DETECTOR])
@pytest.mark.parametrize('expected', [NORMALISED_RGB, RAW_BGR], ids=str)
def test_preprocessor_follows_the_checkpoint(load, config, expected):
    cfg = load(config)
    before = cfg.to_dict()
    checkpoint_meta.adopt_input_format(cfg, expected, 'x.pth')
    flag = 'to_rgb' if config == CLASSIFIER else 'bgr_to_rgb'
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor[flag] == (expected is NORMALISED_RGB)
    assert preprocessor.mean == list(expected.mean)
    assert preprocessor.std == list(expected.std)
    assert (cfg.to_dict() == before) == (expected is NORMALISED_RGB)
    checkpoint_meta.adopt_input_format(cfg, None, 'x.pth')
    assert cfg.model.data_preprocessor == preprocessor


@pytest.mark.parametrize('config', [CLASSIFIER, DETECTOR])
def test_backbone_weights_bring_their_input_along(load, config, tmp_path):
    cfg = load(config)
    weights = models.shufflenet_v2_x0_5().state_dict()
    path = str(tmp_path / 'torchvision.pth')
    torch.save(weights, path)
    cfg.model.data_preprocessor.mean = [0, 0, 0]
    use_backbone_weights(cfg, path)
    assert cfg.model.data_preprocessor.mean == list(NORMALISED_RGB.mean)
    assert cfg.model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint=path
    )
