"""The whole detector learns: from random weights, in half a minute."""

import re

from commands import CONFIG

from mmdet_shufflenetv2.data.synthetic import DetectionSet, write_set


def test_a_few_pictures_are_learnt(here, tmp_path):
    """Loss and mAP of a run here: 0.79 after 60 epochs, 0.66 after 40."""
    data = tmp_path / 'data'
    write_set(data, DetectionSet(8, 1, (96, 96), seed=1, empty_rate=0.0))
    printed = here(
        *(
            'train',
            CONFIG,
            '--data-root',
            data,
            '--work-dir',
            tmp_path / 'run',
        ),
        *('--val-ann', 'annotations/instances_train.json'),
        *('--val-img', 'train', '--from-scratch', '--width', 0.5),
        *('--image-size', '96x96', '--epochs', 40, '--batch-size', 2),
        *('--lr', 0.003, '--augment', 'none', '--workers', 0, '--seed', 0),
        *('--cfg-options', 'train_cfg.val_interval=40'),
        'default_hooks.checkpoint.interval=40',
    )
    losses = [
        float(loss)
        for loss in re.findall(r'Epoch\(train\).*?\bloss: (\S+)', printed)
    ]
    assert len(losses) == 40
    assert losses[-1] < 0.5 * losses[0]
    (score,) = re.findall(r'Epoch\(val\).*coco/bbox_mAP: (\S+)', printed)
    assert float(score) > 0.4
