"""mmdet's own interfaces and tools with this project's configs.

Both with the configs as they are shipped, and with the one that a run has
left in its work dir.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import mmdet
import numpy as np
import pytest
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tiny_run import CONFIG, TINY

MIM = Path(mmdet.__file__).parent / '.mim' / 'tools'
ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
CLASSES = 'circle,square,triangle,star,ring,cross'
OWN = 'lighthead_shufflenetv2_custom'
SWAP = 'swap/retinanet_shufflenetv2_fpn_coco'


def tool(name, *arguments, monkeypatch):
    """Run a tool of mmdet in this process, as a script."""
    path = MIM / name
    monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
    runpy.run_path(str(path), run_name='__main__')


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
            f'{prefix}.dataset.metainfo.classes={CLASSES}',
        ]
        if split == 'val':
            options.append(
                f'{loader}_evaluator.ann_file='
                f'{shapes}/annotations/instances_val.json'
            )
    return options


@pytest.mark.parametrize(
    'name, options',
    [
        (
            SWAP,
            [
                'model.bbox_head.num_classes=6',
                'optim_wrapper.optimizer.lr=0.0001',
                'train_dataloader.dataset.pipeline.2.scale=(128,128)',
                'val_dataloader.dataset.pipeline.1.scale=(128,128)',
            ],
        ),
        (
            OWN,
            ['model.roi_head.bbox_head.num_classes=6', *TINY],
        ),
    ],
)
def test_mmdets_own_train_script_runs_our_configs(
    name, options, shapes, tmp_path
):
    finished = subprocess.run(
        [
            sys.executable,
            str(MIM / 'train.py'),
            str(ROOT / 'configs' / f'{name}.py'),
            '--work-dir',
            str(tmp_path),
            '--cfg-options',
            *on_shapes(shapes),
            *options,
            'model.backbone.init_cfg=None',
            'train_cfg.max_epochs=1',
            'default_hooks.logger.interval=1',
        ],
        cwd=tmp_path,
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert (tmp_path / 'epoch_1.pth').is_file()


@pytest.mark.parametrize('path', CONFIGS)
def test_mmengines_runner_is_made_from_every_config(path, tmp_path):
    cfg = Config.fromfile(ROOT / path)
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = f'{tmp_path.name}_{Path(path).stem}'
    runner = Runner.from_cfg(cfg)
    named = {
        hook['type'].rpartition('.')[2] for hook in cfg.get('custom_hooks', ())
    }
    assert named <= {type(hook).__name__ for hook in runner.hooks}
    assert all(isinstance(hook, Hook) for hook in runner.hooks)


@pytest.fixture(scope='module')
def left(trained) -> tuple[Path, Path]:
    """Config and checkpoint that a run has left."""
    return trained[0] / f'{OWN}.py', trained[0] / 'epoch_2.pth'


def test_inferencer_and_detector_are_made_from_what_a_run_leaves(left, shapes):
    config, checkpoint = map(str, left)
    image = str(next((shapes / 'val').glob('*.png')))
    found = DetInferencer(
        config, checkpoint, device='cpu', show_progress=False
    )(image, no_save_vis=True, no_save_pred=True)['predictions'][0]
    detector = init_detector(config, checkpoint, device='cpu')
    assert list(detector.dataset_meta['classes']) == CLASSES.split(',')
    same = inference_detector(detector, image).pred_instances
    np.testing.assert_allclose(found['scores'], same.scores, atol=1e-5)


@pytest.fixture(scope='module')
def dumped(left, command, shapes, tmp_path_factory) -> Path:
    """Predictions of our test command, and the config that it leaves."""
    folder = tmp_path_factory.mktemp('tested')
    command(
        'test',
        CONFIG,
        left[1],
        '--data-root',
        shapes,
        '--work-dir',
        folder,
        '--out',
        folder / 'results.pkl',
        '--cfg-options',
        *TINY,
        'model.test_cfg.rcnn.score_thr=0.0',
    )
    return folder


def test_mmdets_test_script_reads_what_a_run_leaves(
    left, dumped, shapes, tmp_path, monkeypatch, capsys
):
    for config in left[0], dumped / f'{OWN}.py':
        tool(
            'test.py',
            config,
            left[1],
            '--work-dir',
            tmp_path,
            monkeypatch=monkeypatch,
        )
        assert 'Average Precision' in capsys.readouterr().out


def test_our_test_command_reads_the_config_that_it_left(
    left, dumped, here, shapes, tmp_path
):
    printed = here(
        'test', dumped / f'{OWN}.py', left[1], '--work-dir', tmp_path
    )
    assert 'coco/bbox_mAP' in printed


def test_mmdets_tools_browse_and_analyse(left, dumped, tmp_path):
    def mmdets(name, *arguments):
        finished = subprocess.run(
            [
                *(sys.executable, '-m', 'mmdet_shufflenetv2', 'mmdet', name),
                *map(str, arguments),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]

    browsed, analysed = tmp_path / 'browsed', tmp_path / 'analysed'
    mmdets('browse_dataset', left[0], '--output-dir', browsed, '--not-show')
    assert len(list(browsed.rglob('*.png'))) == 6
    results = dumped / 'results.pkl'
    mmdets('analyze_results', left[0], results, analysed, '--topk', 2)
    assert len(list(analysed.rglob('*.png'))) == 4
    mmdets('confusion_matrix', left[0], results, tmp_path)
    assert (tmp_path / 'confusion_matrix.png').is_file()
