"""A classifier's config, its data and its measure, the error in %."""

from argparse import Namespace

import pytest
import torch
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample

from mmdet_shufflenetv2.data.class_folders import imagenet_synsets
from mmdet_shufflenetv2.data.synthetic import ClassificationSet, write_set
from mmdet_shufflenetv2.engine import run_data
from mmdet_shufflenetv2.engine.published_classifier import ClassificationError
from mmdet_shufflenetv2.engine.tasks import Classification, task_of
from mmdet_shufflenetv2.errors import UserError

CLASSES = ('circle', 'cross', 'ring', 'square', 'star', 'triangle')
SYNSETS = imagenet_synsets()


@pytest.fixture
def crops(tmp_path):
    write_set(tmp_path / 'crops', ClassificationSet(1, 1, 64))
    return tmp_path / 'crops'


def use(cfg, crops):
    Classification.use_data_root(cfg, Namespace(data_root=str(crops)))


def check(cfg):
    Classification.check_data(cfg, ('train', 'val'), None)


def test_data_root_sets_folders_and_classes(load, crops):
    cfg = load('configs/pretrain.py')
    use(cfg, crops)
    for name, dataset in run_data.datasets_of(cfg):
        assert dataset.metainfo.classes == CLASSES
        assert dataset.data_root == str(crops)
        assert dataset.data_prefix == ('train' if name == 'train' else 'val')
    check(cfg)
    cfg.model.head.num_classes = 1000
    with pytest.raises(UserError, match=r'has 6 classes.*num_classes=1000'):
        check(cfg)
    cfg.train_dataloader.dataset.data_root = str(crops / 'nowhere')
    with pytest.raises(UserError, match='nowhere/train/<class>/<image>'):
        check(cfg)


def test_images_that_mmpretrain_would_pass_over_are_used(load, crops):
    for path in crops.rglob('*.png'):
        path.rename(path.with_suffix('.webp'))
    cfg = load('configs/pretrain.py')
    use(cfg, crops)
    check(cfg)
    dataset = dict(cfg.train_dataloader.dataset, _scope_='mmpretrain')
    assert len(DATASETS.build(dataset)) == len(CLASSES)


@pytest.mark.parametrize(
    'names, found',
    [
        # A folder left over from elsewhere hides no stopped copy.
        ((*SYNSETS[:5], 'zz_old'), '5 of .* 1 other folders'),
        # A few synsets among other classes are one's own.
        ((*SYNSETS[:3], 'x', 'y', 'z'), None),
    ],
)
def test_a_part_of_imagenet_has_to_be_meant(load, crops, names, found):
    for split in 'train', 'val':
        for old, new in zip(CLASSES, names, strict=True):
            (crops / split / old).rename(crops / split / new)
    cfg = load('configs/pretrain.py')
    if found:
        with pytest.raises(UserError, match=found) as error:
            use(cfg, crops)
        option = str(error.value).partition('--cfg-options ')[2]
        cfg.merge_from_dict(dict([option.split('=')]))
    use(cfg, crops)
    assert cfg.model.head.num_classes == 6


def test_an_option_of_the_other_task_is_named(load):
    cfg, given = load('configs/pretrain.py'), Namespace(config='x', epochs=3)
    with pytest.raises(UserError, match=r'expected no --epochs$'):
        task_of(cfg, given)
    given.eval = ['bbox']
    with pytest.raises(UserError, match='--eval bbox; --eval takes error'):
        task_of(cfg, given)


def evaluate(scores, labels) -> dict[str, float]:
    metric = ClassificationError()
    samples = [
        DataSample().set_gt_label(label).set_pred_score(score).to_dict()
        for score, label in zip(scores, labels, strict=True)
    ]
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_error_is_the_share_of_images_without_their_class():
    # The right class is the best guess of images 0 to 6, the third one of 7
    # and 8, the last one of 9.
    scores = torch.arange(10.0, 0, -1).repeat(10, 1)
    errors = evaluate(scores, [0] * 7 + [2, 2, 9])
    assert errors == pytest.approx({'error/top1': 30.0, 'error/top5': 10.0})
    # A right guess of probability 0 is right; top-5 of two classes is none.
    scores = torch.tensor([[0.0, -1.0], [0.0, -1.0]])
    assert evaluate(scores, [0, 1]) == {'error/top1': 50.0}
