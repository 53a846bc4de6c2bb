import pytest
import torch
from mmengine.config import Config

from mmdet_shufflenetv2.analysis.networks import (
    load_subject,
    random_image,
)
from mmdet_shufflenetv2.analysis.networks import (
    test_size as size_of_test_images,
)
from mmdet_shufflenetv2.engine.run_config import UsageError, without_pretrained

CONFIG = 'configs/lighthead_shufflenetv2_x0_5.py'


@pytest.fixture(scope='module')
def detector(root):
    return load_subject(str(root / CONFIG))


def test_published_networks_classify_and_show_every_level():
    subject = load_subject('shufflenet_v2_x0_5')
    image = random_image(2, (64, 64))
    with torch.no_grad():
        assert subject.run(image).shape == (2, 1000)
        levels = subject.features(image)
    assert list(levels) == ['stage2', 'stage3', 'stage4', 'conv5']
    assert subject.size == (224, 224)
    assert not subject.model.training


def test_backbones_take_options():
    subject = load_subject('ShuffleNetV2', dict(widen_factor=0.5))
    with torch.no_grad():
        levels = subject.features(random_image(1, (64, 64)))
    assert levels['stage2'].shape[1] == 48


def test_backbones_of_other_packages_are_found():
    pytest.importorskip('mmpretrain')
    subject = load_subject('mmpretrain.ShuffleNetV2', {'widen_factor': 0.5})
    with torch.no_grad():
        assert list(subject.features(random_image(1, (64, 64)))) == ['level 0']


def test_configs_of_classifiers_run():
    pytest.importorskip('mmpretrain')
    subject = load_subject(
        'mmpretrain::shufflenet_v1/shufflenet-v1-1x_16xb64_in1k.py'
    )
    with torch.no_grad():
        scores = subject.run(random_image(1, (32, 32)))
    assert scores.shape == (1, 1000)
    assert not subject.is_detector
    assert subject.size == (224, 224)


def test_a_detector_runs_to_its_detections(detector):
    with torch.no_grad():
        (found,) = detector.run(random_image(1, (64, 64)))
        levels = detector.features(random_image(1, (64, 64)))
    assert detector.is_detector
    assert hasattr(found, 'pred_instances')
    assert list(levels) == ['stage3', 'conv5', 'neck 0', 'neck 1']


@pytest.mark.parametrize(
    'name, near',
    [
        ('shufflenetv2', 'ShuffleNetV2'),
        ('shufflenet_v2_1_0', 'shufflenet_v2_x1_0'),
        ('ResNett', 'ResNet'),
        ('qqq', 'give a config file'),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(name, near):
    with pytest.raises(UsageError, match=near):
        load_subject(name)


@pytest.mark.parametrize(
    'target, wrong, words',
    [
        ('nowhere.py', {}, 'config not found: nowhere.py'),
        ('mmdet::nowhere.py', {}, 'config not found: mmdet::nowhere.py'),
        ('mmnone::a.py', {}, "package 'mmnone' is not installed"),
        (
            'ShuffleNetV2',
            dict(backbone_options=dict(widen_factor=3)),
            'widen_factor',
        ),
        (
            'ShuffleNetV2',
            dict(backbone_options=dict(wide=3)),
            'cannot be built: .*wide',
        ),
        (
            'ShuffleNetV2',
            dict(cfg_options={'a': 1}),
            '--cfg-options: allowed with a config',
        ),
        (
            'x.py',
            dict(backbone_options={'a': 1}),
            '--backbone-options: allowed with the name',
        ),
        (
            'shufflenet_v2_x0_5',
            dict(backbone_options={'a': 1}),
            'published network',
        ),
    ],
)
def test_wrong_requests_are_answered_in_a_sentence(target, wrong, words):
    with pytest.raises(UsageError, match=words):
        load_subject(target, **wrong)


def test_a_config_without_a_model_is_refused(tmp_path):
    path = tmp_path / 'empty.py'
    path.write_text('epochs = 3\n')
    with pytest.raises(UsageError, match='has no model'):
        load_subject(str(path))


def test_nothing_pretrained_is_asked_for():
    pretrained = dict(type='Pretrained', checkpoint='https://nowhere')
    other = dict(type='Kaiming')
    cfg = Config(
        dict(
            model=dict(
                backbone=dict(init_cfg=pretrained, pretrained='a.pth'),
                neck=[dict(init_cfg=[other, pretrained])],
                head=dict(init_cfg=other),
            )
        )
    )
    without_pretrained(cfg)
    assert cfg.model == dict(backbone={}, neck=[{}], head=dict(init_cfg=other))


@pytest.mark.parametrize(
    'transforms, size',
    [
        ([dict(type='Resize', scale=(1333, 800))], (800, 1344)),
        (
            [
                dict(type='ResizeEdge', scale=256),
                dict(type='CenterCrop', crop_size=224),
            ],
            (224, 224),
        ),
        ([], (224, 224)),
    ],
)
def test_size_is_that_of_the_configs_test_images(transforms, size):
    pipeline = dict(dataset=dict(pipeline=transforms))
    assert size_of_test_images(Config(dict(test_dataloader=pipeline))) == size


def test_images_are_the_same_each_time_and_not_zero():
    first, second = (random_image(2, (4, 6)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (2, 3, 4, 6)
    assert first.all()
