"""``tools/train.py`` as its users run it, on a tiny synthetic data set."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
import torch
from mmengine.runner import CheckpointLoader
from tiny_run import CONFIG, TINY

from mmdet_shufflenetv2 import cli
from mmdet_shufflenetv2.data.synthetic import (
    CLASSES,
    DetectionSet,
    write_set,
)
from mmdet_shufflenetv2.engine import settings


def test_run_leaves_checkpoint_curve_and_classes(trained):
    work_dir, printed = trained
    assert (work_dir / 'epoch_2.pth').is_file()
    assert (work_dir / 'curves.png').read_bytes().startswith(b'\x89PNG')
    checkpoint = CheckpointLoader.load_checkpoint(
        str(work_dir / 'epoch_2.pth'), 'cpu'
    )
    assert checkpoint['meta']['dataset_meta']['classes'] == CLASSES
    head = checkpoint['state_dict']['roi_head.bbox_head.fc_cls.weight']
    assert len(head) == 6 + 1
    for word in 'eta:', 'images_per_s:', 'loss_rpn_cls:', 'loss_bbox:':
        assert word in printed


def test_resume_goes_on_from_the_last_checkpoint_of_a_moved_work_dir(
    trained, here, shapes, tmp_path
):
    work_dir = tmp_path / 'resumed'
    shutil.copytree(trained[0], work_dir)
    (work_dir / 'last_checkpoint').write_text('/where/it/was/epoch_2.pth')
    # A run was killed while it saved the next one.
    litter = work_dir / '.epoch_3.pth.0123.part'
    litter.write_bytes(b'half of a checkpoint')
    arguments = [o for o in TINY if 'max_epochs' not in o]
    printed = here(
        'train',
        CONFIG,
        '--data-root',
        shapes,
        '--work-dir',
        work_dir,
        '--resume',
        '--cfg-options',
        *arguments,
        'train_cfg.max_epochs=3',
    )
    assert re.findall(r'Epoch\(train\) +\[(\d+)\]', printed) == ['3'] * 3
    assert (work_dir / 'epoch_3.pth').is_file()
    assert not litter.exists()


def test_best_checkpoint_cannot_be_resumed_and_says_what_it_lacks(
    trained, here, shapes, tmp_path
):
    best = tmp_path / 'best.pth'
    checkpoint = torch.load(trained[0] / 'epoch_2.pth', weights_only=True)
    # As mmengine stores it.
    del checkpoint['optimizer'], checkpoint['param_schedulers']
    torch.save(checkpoint, best)
    printed = here(
        'train',
        CONFIG,
        '--data-root',
        shapes,
        '--work-dir',
        tmp_path,
        '--resume',
        best,
        '--cfg-options',
        *TINY,
        code=2,
    )
    error = printed.partition('error: ')[2]
    assert f'{best} lacks optimizer, param_schedulers' in error
    assert 'load_from' in error


def test_two_processes_are_one_run_whether_told_or_not(
    command, root, shapes, tmp_path
):
    command(
        'train',
        root / CONFIG,
        '--data-root',
        shapes,
        '--epochs',
        1,
        '--cfg-options',
        *TINY,
        cwd=tmp_path,
        launcher=(
            '-m',
            'torch.distributed.run',
            '--standalone',
            '--nproc-per-node=2',
        ),
    )
    (run,) = (tmp_path / 'work_dirs').iterdir()
    assert (run / 'epoch_1.pth').is_file()
    log = next(run.glob('*/*.log')).read_text()
    # 6 images, 2 a process: two steps an epoch instead of three.
    assert re.search(r'Epoch\(train\) +\[1\]\[2/2\]', log)


@pytest.mark.gpu
def test_amp_reaches_the_optimizer(here, shapes, tmp_path):
    printed = here(
        'train',
        CONFIG,
        '--data-root',
        shapes,
        '--work-dir',
        tmp_path,
        '--amp',
        '--cfg-options',
        *TINY,
    )
    assert 'AmpOptimWrapper' in printed


def test_every_run_has_a_folder_and_resumes_its_own_data(
    here, root, shapes, tmp_path
):
    other = tmp_path / 'other'
    write_set(other, DetectionSet(4, 2, (96, 96), seed=9))
    train = 'train', root / CONFIG, '--cfg-options', *TINY, '--epochs', 1
    runs = tmp_path / 'work_dirs'
    name = 'lighthead_shufflenetv2_custom'
    here(*train, '--data-root', shapes, cwd=tmp_path)
    first = (runs / name / 'epoch_1.pth').read_bytes()
    here(*train, '--data-root', other, cwd=tmp_path)
    assert {p.name for p in runs.iterdir()} == {name, f'{name}-2'}
    assert (runs / name / 'epoch_1.pth').read_bytes() == first
    # The last run was on the other set: the first one's goes on.
    shutil.copytree(shapes, tmp_path / 'moved')
    train = *train[:-1], 2, '--resume'
    here(*train, '--data-root', tmp_path / 'moved', cwd=tmp_path)
    assert (runs / name / 'epoch_2.pth').is_file()
    assert not (runs / f'{name}-2' / 'epoch_2.pth').exists()
    # A third set has no run to go on with, nor another's work dir.
    third = tmp_path / 'third'
    write_set(third, DetectionSet(5, 2, (96, 96), seed=8))
    for given in [], ['--work-dir', runs / name]:
        printed = here(
            *train, '--data-root', third, *given, cwd=tmp_path, code=2
        )
        assert 'start from' in printed
        assert str(tmp_path / 'moved') in printed


def test_tensorboard_switch_logs_or_says_what_it_needs(
    command, shapes, tmp_path
):
    arguments = (
        'train',
        CONFIG,
        '--data-root',
        shapes,
        '--work-dir',
        tmp_path,
        '--tensorboard',
        '--cfg-options',
        *[o for o in TINY if 'max_epochs' not in o],
        'train_cfg.max_epochs=1',
    )
    if find_spec('tensorboard') is None:
        finished = command(*arguments, code=2)
        assert 'pip install tensorboard' in finished.stderr
    else:
        command(*arguments)
        assert list(tmp_path.glob('*/vis_data/events.out.tfevents.*'))


def test_ctrl_c_keeps_the_last_checkpoint(root, shapes, tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            str(root / 'tools/train.py'),
            CONFIG,
            '--data-root',
            str(shapes),
            '--work-dir',
            str(tmp_path),
            '--cfg-options',
            *[o for o in TINY if 'max_epochs' not in o],
            'train_cfg.max_epochs=1000',
        ],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs hand an ignored SIGINT down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 240
    while not (tmp_path / 'last_checkpoint').is_file():
        assert process.poll() is None, process.stderr.read()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 'the last whole checkpoint is' in stderr
    assert '--resume' in stderr
    assert 'Traceback' not in stderr
    last = (tmp_path / 'last_checkpoint').read_text()
    assert CheckpointLoader.load_checkpoint(last, 'cpu')['state_dict']


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['no_such_config.py'], 'config not found: no_such_config.py'),
        ([CONFIG, '--data-root', 'nowhere'], 'nowhere'),
        (
            [CONFIG, '--work-dir', '/proc/nothing'],
            'cannot write to the work dir /proc/nothing',
        ),
        (
            ['configs/lighthead_shufflenetv2.py', '--work-dir', 'out'],
            'tools/prepare_coco.py',
        ),
        pytest.param(
            [CONFIG, '--work-dir', 'out', '--amp'],
            '--amp needs a GPU',
            marks=pytest.mark.skipif(
                torch.cuda.is_available(), reason='a GPU is there'
            ),
        ),
        ([CONFIG, '--resume'], 'no run has left a checkpoint in work_dirs/'),
    ],
)
def test_wrong_arguments_are_one_message(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, 'fetch_weights', lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        cli.main('train', arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count('error: ') == 1
    assert message in error


def test_bad_box_names_file_and_record(here, shapes, tmp_path):
    folder = tmp_path / 'data'
    shutil.copytree(shapes, folder)
    path = folder / 'annotations' / 'instances_train.json'
    data = json.loads(path.read_text())
    data['annotations'][1]['bbox'][2] = -5
    path.write_text(json.dumps(data))
    printed = here(
        'train',
        CONFIG,
        '--data-root',
        folder,
        '--work-dir',
        tmp_path,
        '--from-scratch',
        '--strict',
        code=2,
    )
    assert 'instances_train.json' in printed
    assert f'id {data["annotations"][1]["id"]}' in printed
    assert 'Traceback' not in printed


def test_truncated_image_in_a_worker_names_the_file(here, shapes, tmp_path):
    folder = tmp_path / 'data'
    shutil.copytree(shapes, folder)
    victim = folder / 'train' / '000003.png'
    victim.write_bytes(victim.read_bytes()[:500])
    options = [o for o in TINY if 'train_dataloader.' not in o]
    printed = here(
        'train',
        CONFIG,
        '--data-root',
        folder,
        '--work-dir',
        tmp_path,
        '--strict',
        '--cfg-options',
        *options,
        'train_dataloader.num_workers=1',
        code=2,
    )
    assert printed.count('error: ') == 1
    error = printed.partition('error: ')[2]
    assert '000003.png' in error
    assert 'Traceback' not in error
