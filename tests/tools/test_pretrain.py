"""The whole road in small: classify synthetic shapes, then detect them."""

import re

import pytest
import torch
from commands import CONFIG, TINY, run

from mmdet_shufflenetv2.data.synthetic import ClassificationSet, write_set

CLASSIFIER = 'configs/demo/pretrain_shufflenetv2_shapes.py'


@pytest.fixture(scope='module')
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'crops'
    write_set(folder, ClassificationSet(train=4, val=2, size=64))
    return folder


@pytest.fixture(scope='module')
def pretrained(crops, tmp_path_factory):
    """The work dir of three iterations, and what was printed."""
    work_dir = tmp_path_factory.mktemp('pretrain')
    printed = run(
        *('train', CLASSIFIER, '--data-root', crops, '--work-dir', work_dir),
        *('--network', 'shufflenet_v2_x0_5', '--batch-size', 8),
        *('--workers', 0, '--cfg-options', 'train_cfg.max_iters=3'),
        *('train_cfg.val_interval=3', 'default_hooks.logger.interval=1'),
    )
    return work_dir, printed


def test_pretraining_leaves_weights_curves_and_error(pretrained):
    work_dir, printed = pretrained
    assert (work_dir / 'curves.png').is_file()
    assert re.search(r'Iter\(val\).*error/top1: \d', printed)
    assert 'images_per_s:' in printed
    meta = torch.load(work_dir / 'iter_3.pth', weights_only=True)['meta']
    assert meta['input_format']['channel_order'] == 'RGB'
    assert meta['style'] == 'torchvision'
    assert meta['iter'] == 3


def test_test_gives_the_errors_of_the_run(pretrained, here, tmp_path):
    work_dir, trained = pretrained
    printed = here(
        'test',
        *(
            work_dir / 'pretrain_shufflenetv2_shapes.py',
            work_dir / 'iter_3.pth',
        ),
        *('--eval', 'error', '--work-dir', tmp_path),
        *('--out', tmp_path / 'results.pkl'),
    )
    pattern = r'error/top1: (\S+)  error/top5: (\S+)'
    (shown,) = re.findall(pattern, trained)
    assert re.findall(pattern, printed) == [shown]
    assert (tmp_path / 'results.pkl').stat().st_size


def test_another_network_is_named_with_the_option_for_it(
    pretrained, crops, here, tmp_path
):
    said = here(
        *('test', CLASSIFIER, pretrained[0] / 'iter_3.pth', '--eval', 'error'),
        *('--network', 'shufflenet_v2_x1_0', '--data-root', crops),
        *('--work-dir', tmp_path),
        code=2,
    )
    assert 'the model is shufflenet_v2_x1_0; --network names another' in said


def test_detector_starts_from_the_classifier(
    pretrained, here, shapes, tmp_path
):
    path = pretrained[0] / 'iter_3.pth'
    printed = here(
        *('train', CONFIG, '--data-root', shapes, '--work-dir', tmp_path),
        *TINY[1:],
        *('--epochs', 1, '--backbone-weights', path),
        *('--cfg-options', 'optim_wrapper.optimizer.lr=0.0'),
    )
    assert re.search(r'Loaded \d+ tensors from', printed)
    detector = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    classifier = torch.load(path, weights_only=True)['state_dict']
    convolutions = 0
    for key, value in detector['state_dict'].items():
        if key.startswith('backbone.') and value.ndim == 4:
            assert torch.equal(value, classifier[key]), key
            convolutions += 1
    assert convolutions > 50
