"""mmdet's own interfaces and tools with this project's configs.

Both with the configs as they are shipped, and with the one that a run has
left in its work dir.
"""

import sys
from pathlib import Path

import mmdet
import numpy as np
import pytest
from commands import CONFIG, python
from mmdet.apis import DetInferencer, inference_detector, init_detector

from mmdet_shufflenetv2.data.synthetic import CLASSES

TOOLS = Path(mmdet.__file__).parent / '.mim' / 'tools'


def on_shapes(shapes) -> list[str]:
    """What points a config to the small data set, by mmdet's means alone."""
    options = []
    for loader, split in ('train', 'train'), ('val', 'val'), ('test', 'val'):
        prefix = f'{loader}_dataloader'
        options += [
            f'{prefix}.num_workers=0',
            f'{prefix}.persistent_workers=False',
            f'{prefix}.dataset.data_root={shapes}/',
            f'{prefix}.dataset.ann_file=annotations/instances_{split}.json',
            f'{prefix}.dataset.data_prefix.img={split}/',
            f'{prefix}.dataset.metainfo.classes={",".join(CLASSES)}',
        ]
    truth = f'{shapes}/annotations/instances_val.json'
    evaluators = 'val_evaluator', 'test_evaluator'
    return options + [f'{name}.ann_file={truth}' for name in evaluators]


def test_mmdets_own_train_script_runs_our_config(shapes, tmp_path):
    python(
        *(TOOLS / 'train.py', CONFIG, '--work-dir', tmp_path),
        *('--cfg-options', *on_shapes(shapes)),
        'model.roi_head.bbox_head.num_classes=6',
        'model.backbone.widen_factor=0.5',
        'model.backbone.init_cfg=None',
        'model.neck.in_channels=(96,192)',
        'model.rpn_head.in_channels=96',
        'train_cfg.max_epochs=1',
        'train_dataloader.dataset.pipeline.2.scale=(96,96)',
        'val_dataloader.dataset.pipeline.1.scale=(96,96)',
        cwd=tmp_path,
    )
    assert (tmp_path / 'epoch_1.pth').is_file()


@pytest.fixture(scope='module')
def left(trained) -> tuple[Path, Path]:
    """Config and checkpoint that a run has left."""
    return trained[0] / CONFIG.name, trained[0] / 'epoch_2.pth'


def test_inferencer_and_detector_are_made_from_what_a_run_leaves(left, shapes):
    config, checkpoint = map(str, left)
    image = str(next((shapes / 'val').glob('*.png')))
    found = DetInferencer(
        config, checkpoint, device='cpu', show_progress=False
    )(image, no_save_vis=True, no_save_pred=True)['predictions'][0]
    detector = init_detector(config, checkpoint, device='cpu')
    assert tuple(detector.dataset_meta['classes']) == tuple(CLASSES)
    same = inference_detector(detector, image).pred_instances
    np.testing.assert_allclose(found['scores'], same.scores, atol=1e-5)


@pytest.fixture
def mmdets(here, monkeypatch):
    """Run a tool of mmdet in this process, by our command."""
    monkeypatch.setattr(sys, 'argv', [''])
    monkeypatch.setattr(sys, 'path', [*sys.path])
    return lambda name, *arguments: here('mmdet', name, *arguments)


def test_test_tools_read_what_a_run_and_a_test_leave(
    left, tested, here, mmdets, tmp_path
):
    printed = mmdets('test', *left, '--work-dir', tmp_path)
    assert 'Average Precision' in printed
    config = tested[1] / CONFIG.name
    printed = here('test', config, left[1], '--work-dir', tmp_path)
    assert 'coco/bbox_mAP' in printed


def test_mmdets_tools_browse_and_analyse(left, tested, mmdets, tmp_path):
    browsed, analysed = tmp_path / 'browsed', tmp_path / 'analysed'
    mmdets('browse_dataset', left[0], '--output-dir', browsed, '--not-show')
    assert len(list(browsed.rglob('*.png'))) == 6
    results = tested[1] / 'results.pkl'
    mmdets('analyze_results', left[0], results, analysed, '--topk', 2)
    assert len(list(analysed.rglob('*.png'))) == 4
    mmdets('confusion_matrix', left[0], results, tmp_path)
    assert (tmp_path / 'confusion_matrix.png').is_file()
