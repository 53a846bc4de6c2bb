"""A swap config through mmdet's own train script, this package installed."""

import os
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest

CLASSES = 'circle,square,triangle,star,ring,cross'


@pytest.mark.parametrize('name', ['retinanet_shufflenetv2_fpn_coco'])
def test_mmdets_own_train_script_runs_a_swap_config(
    name, root, shapes, tmp_path
):
    script = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'train.py'
    options = [
        'model.bbox_head.num_classes=6',
        'train_cfg.max_epochs=1',
        'default_hooks.logger.interval=1',
        'optim_wrapper.optimizer.lr=0.0001',
        f'val_evaluator.ann_file={shapes}/annotations/instances_val.json',
    ]
    for loader, split in ('train', 'train'), ('val', 'val'):
        prefix = f'{loader}_dataloader'
        options += [
            f'{prefix}.num_workers=0',
            f'{prefix}.persistent_workers=False',
            f'{prefix}.dataset.data_root={shapes}/',
            f'{prefix}.dataset.ann_file=annotations/instances_{split}.json',
            f'{prefix}.dataset.data_prefix.img={split}/',
            f'{prefix}.dataset.metainfo.classes={CLASSES}',
        ]
    options.append('train_dataloader.dataset.pipeline.2.scale=(128,128)')
    options.append('val_dataloader.dataset.pipeline.1.scale=(128,128)')
    finished = subprocess.run(
        [
            sys.executable,
            str(script),
            str(root / 'configs' / 'swap' / f'{name}.py'),
            '--work-dir',
            str(tmp_path),
            '--cfg-options',
            *options,
        ],
        cwd=tmp_path,
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert (tmp_path / 'epoch_1.pth').is_file()
