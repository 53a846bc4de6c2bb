import pytest
import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from mmdet_shufflenetv2.analysis import openmmlab
from mmdet_shufflenetv2.analysis.openmmlab import (
    Subject,
    let_pass,
    load_subject,
    prepared,
    random_image,
    settle,
)
from mmdet_shufflenetv2.errors import UserError

CONFIG = 'configs/lighthead_shufflenetv2_x0_5.py'


@pytest.fixture(scope='module')
def detector(root):
    return load_subject(str(root / CONFIG))


@pytest.mark.parametrize(
    'name, options, levels',
    [
        ('shufflenet_v2_x0_5', {}, ['stage2', 'stage3', 'stage4', 'conv5']),
        (
            'ShuffleNetV2',
            dict(widen_factor=0.5),
            ['stage2', 'stage3', 'stage4'],
        ),
        ('mmpretrain.ShuffleNetV2', dict(widen_factor=0.5), ['level 0']),
        (
            'mmpretrain::shufflenet_v1/shufflenet-v1-1x_16xb64_in1k.py',
            {},
            ['level 0'],
        ),
    ],
)
def test_networks_are_named_and_show_their_levels(name, options, levels):
    if 'mmpretrain' in name:
        pytest.importorskip('mmpretrain')
    subject = load_subject(name, options)
    image = random_image(2, (64, 64))
    assert torch.equal(image, random_image(2, (64, 64)))
    with torch.no_grad():
        found = subject.run(subject.model, (image,))
        maps = subject.features(subject.model, image)
    assert list(maps) == levels
    if 'shufflenet_' in name:
        assert found.shape == (2, 1000)
    assert subject.size == (224, 224)
    assert not subject.is_detector
    assert not subject.model.training


def test_a_detector_runs_to_its_detections(detector):
    with torch.no_grad():
        (found,) = detector.run(detector.model, (random_image(1, (64, 64)),))
        levels = detector.features(detector.model, random_image(1, (64, 64)))
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
    with pytest.raises(UserError, match=near):
        load_subject(name)


@pytest.mark.parametrize(
    'target, wrong, words',
    [
        ('nowhere.py', {}, 'config not found: nowhere.py'),
        (
            'ShuffleNetV2',
            dict(backbone_options=dict(wide=3)),
            'cannot be built: .*wide',
        ),
        ('ResNet', dict(cfg_options={'a': 1}), 'takes --cfg-options'),
        ('x.py', dict(backbone_options={'a': 1}), 'takes --cfg-options'),
    ],
)
def test_wrong_requests_are_answered_in_a_sentence(target, wrong, words):
    with pytest.raises(UserError, match=words):
        load_subject(target, **wrong)


ABSENT = """
from torch import nn
from mmdet.registry import MODELS
@MODELS.register_module(force=True)
class Needs(nn.Module):
    def __init__(self):
        super().__init__()
        {}
"""


@pytest.mark.parametrize(
    'line, words',
    [
        ('import nowhere_to_be_found', 'nowhere_to_be_found'),
        ("raise OSError('libGL.so.1')", 'libGL'),
    ],
)
def test_an_absent_library_is_one_clear_line(
    tmp_path, monkeypatch, line, words
):
    monkeypatch.syspath_prepend(tmp_path)
    name = f'needs_{abs(hash(words))}'
    (tmp_path / f'{name}.py').write_text(ABSENT.format(line))
    config = tmp_path / 'config.py'
    config.write_text(
        f"custom_imports = dict(imports=['{name}'])\n"
        "model = dict(type='Needs')\n"
    )
    with pytest.raises(UserError, match=words) as caught:
        load_subject(str(config))
    assert '\n' not in str(caught.value)
    config.write_text(
        "custom_imports = dict(imports=['nowhere_too'])\n"
        "model = dict(type='A')\n"
    )
    with pytest.raises(UserError, match='nowhere_too') as caught:
        load_subject(str(config))
    assert '\n' not in str(caught.value)


def test_a_package_that_cannot_be_imported_is_in_nobodys_way(monkeypatch):
    real = openmmlab.import_module

    def broken(name):
        if name == 'mmpretrain.models':
            raise ImportError('transformers is too new')
        return real(name)

    monkeypatch.setattr(openmmlab, 'import_module', broken)
    assert load_subject('ShuffleNetV2').model is not None
    with pytest.raises(UserError, match='transformers is too new'):
        load_subject('mmpretrain.ShuffleNetV2')


@pytest.mark.parametrize(
    'transforms, size',
    [
        ([dict(type='Resize', scale=(1333, 800))], (800, 1344)),
        (
            [
                dict(type='ResizeEdge', scale=256),
                dict(type='CenterCrop', crop_size=192),
            ],
            (192, 192),
        ),
        ([], (224, 224)),
    ],
)
def test_size_is_that_of_the_configs_test_images(transforms, size):
    pipeline = dict(dataset=dict(pipeline=transforms))
    assert openmmlab.test_size(Config(dict(test_dataloader=pipeline))) == size


def test_maps_of_random_weights_get_the_size_of_trained_ones():
    subject = load_subject('ResNet', dict(depth=18, norm_eval=True))
    subject.model.init_weights()
    last_of_a_branch = subject.model.layer1[0].norm2
    assert not last_of_a_branch.weight.any()
    image = random_image(2, (64, 64))
    settle(subject, (64, 64))
    with torch.no_grad():
        sizes = [
            m.std() for m in subject.features(subject.model, image).values()
        ]
    assert all(0.1 < size < 10 for size in sizes)
    assert not any(m.training for m in subject.model.modules())
    # As in a trained network, the residual branch has something to add.
    assert last_of_a_branch.weight.all()


class Scorer(nn.Module):
    def __init__(self, score_thr):
        super().__init__()
        self.test_cfg = ConfigDict(score_thr=score_thr)

    def forward(self, scores):
        return sum((s > self.test_cfg.score_thr).sum() for s in scores)


def test_sides_of_boxes_are_not_taken_for_scores():
    class Sides(Scorer):
        def forward(self, scores):
            keep = (300 * scores > 0) & (scores > self.test_cfg.score_thr)
            return keep.sum()

    scores = torch.rand(90, generator=torch.Generator().manual_seed(0))
    scorer = Sides(0.0)
    assert let_pass(scorer, lambda: scorer(scores), 20) < 1
    assert scorer(scores) == 20


def test_a_detectors_threshold_lets_the_candidates_pass(detector, monkeypatch):
    monkeypatch.setattr(openmmlab, 'CANDIDATES', 50)
    image = random_image(1, (96, 96))
    notes, facts = prepared(detector, image, is_trained=False)
    with torch.no_grad():
        (result,) = detector.run(detector.model, (image,))
    scores = result.pred_instances.scores
    assert 0 < len(scores) <= 50
    assert scores.min() > facts['score_threshold_set']
    assert facts['detections'] == [len(scores)]
    assert 'which 50 boxes an image pass' in notes[0]


class Detector(nn.Module):
    bbox_head = None

    def extract_feat(self, image):
        return image

    def forward(self, image, samples, mode):
        if mode == 'predict':
            raise AttributeError('loss_cls')
        return image


def test_a_detector_that_cannot_predict_is_run_up_to_there():
    image = torch.ones(1, 3, 8, 8)
    found = Subject('net', Detector())
    notes, _ = prepared(found, image, True)
    assert found.no_results == 'AttributeError: loss_cls'
    assert found.run(found.model, (image,)).shape == (1, 3, 8, 8)
    assert notes == [
        'run without predictions, which fail: AttributeError: loss_cls'
    ]


def test_a_network_that_cannot_run_says_why(monkeypatch):
    def run_at_once(self, model, inputs):
        raise RuntimeError('kernel is larger than the input\nat somewhere')

    monkeypatch.setattr(Subject, 'run', run_at_once)
    with pytest.raises(UserError) as caught:
        prepared(Subject('net', nn.ReLU()), torch.ones(1, 3, 32, 64), True)
    assert str(caught.value) == (
        'net at 1 x 32 x 64 cannot run: RuntimeError: kernel is larger than '
        'the input'
    )
