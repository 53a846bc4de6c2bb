"""``train`` as its users run it, on a tiny synthetic data set."""

import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from commands import CONFIG, TINY, python
from mmengine.runner import CheckpointLoader

from mmdet_shufflenetv2.data.synthetic import CLASSES, DetectionSet, write_set


def test_run_leaves_checkpoint_curve_and_classes(trained):
    work_dir, printed = trained
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
    data = '--data-root', shapes, '--work-dir', work_dir
    printed = here('train', CONFIG, *data, *TINY, '--epochs', 3, '--resume')
    epochs = re.findall(r'Epoch\(train\) +\[(\d+)\]', printed)
    assert set(epochs) == {'3'}
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
    data = '--data-root', shapes, '--work-dir', tmp_path
    printed = here('train', CONFIG, *data, *TINY, '--resume', best, code=2)
    error = printed.partition('error: ')[2]
    assert f'{best} lacks optimizer, param_schedulers' in error
    assert 'load_from' in error


def test_two_processes_are_one_run_whether_told_or_not(root, shapes, tmp_path):
    python(
        *('-m', 'torch.distributed.run', '--standalone'),
        *('--nproc-per-node=2', root / 'tools/train.py', CONFIG),
        *('--data-root', shapes, *TINY, '--epochs', 1, '--tensorboard'),
        cwd=tmp_path,
    )
    (run,) = (tmp_path / 'work_dirs').iterdir()
    assert (run / 'epoch_1.pth').is_file()
    log = next(run.glob('*/*.log')).read_text()
    # 6 images, 3 a process: one step an epoch instead of two.
    assert re.search(r'Epoch\(train\) +\[1\]\[1/1\]', log)
    assert list(run.glob('*/vis_data/events.out.tfevents.*'))


@pytest.mark.gpu
def test_amp_reaches_the_optimizer(here, shapes, tmp_path):
    data = '--data-root', shapes, '--work-dir', tmp_path
    options = *TINY, '--epochs', 1, '--amp'
    assert 'AmpOptimWrapper' in here('train', CONFIG, *data, *options)


def test_every_run_has_a_folder_and_resumes_its_own_data(
    here, trained, shapes, tmp_path
):
    runs, name = tmp_path / 'work_dirs', CONFIG.stem
    shutil.copytree(trained[0], runs / name)
    other, moved = tmp_path / 'other', tmp_path / 'moved'
    write_set(other, DetectionSet(3, 1, (96, 96), seed=9))
    shutil.copytree(shapes, moved)
    train = 'train', CONFIG, *TINY
    options = '--data-root', other, '--epochs', 1
    here(*train, *options, cwd=tmp_path)
    assert {p.name for p in runs.iterdir()} == {name, f'{name}-2'}
    for resume in ['--resume'], ['--cfg-options', 'resume=True']:
        printed = here(
            *(*train, *options, '--name', 'new', *resume),
            **dict(cwd=tmp_path, code=2),
        )
        assert 'there is no run with a checkpoint in work_dirs/new' in printed
    # The last run was on the other set: the first one's goes on.
    options = '--data-root', moved, '--epochs', 3, '--resume'
    here(*train, *options, cwd=tmp_path)
    assert (runs / name / 'epoch_3.pth').is_file()
    assert not (runs / f'{name}-2' / 'epoch_3.pth').exists()
    # A third set has no run to go on with, nor another's work dir, where it
    # has begun without saving a checkpoint, nor another's checkpoint.
    third, last = tmp_path / 'third', runs / name / 'epoch_3.pth'
    write_set(third, DetectionSet(5, 2, (96, 96), seed=8))
    options = '--data-root', third, '--resume'
    (runs / name / 'data.json').write_text('[]')
    for given in (), ('--work-dir', runs / name), (last,):
        printed = here(*train, *options, *given, cwd=tmp_path, code=2)
        assert 'start from' in printed
        assert str(moved) in printed
    nowhere = tmp_path / 'nowhere' / 'epoch_1.pth'
    assert str(nowhere) in here(*train, *options, nowhere, code=2)
    assert not nowhere.parent.exists()


def test_ctrl_c_keeps_the_last_checkpoint(root, shapes, tmp_path):
    words = (
        *(root / 'tools/train.py', CONFIG, '--data-root', shapes),
        *('--work-dir', tmp_path, *TINY, '--epochs', 1000),
    )
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
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
    assert 'the last complete checkpoint is' in stderr
    assert '--resume' in stderr
    assert 'Traceback' not in stderr
    last = (tmp_path / 'last_checkpoint').read_text()
    assert CheckpointLoader.load_checkpoint(last, 'cpu')['state_dict']
