"""Files are written completely or not at all."""

import errno
import os
import signal

import mmengine
import pytest
from mmengine.fileio import get_file_backend
from mmengine.hooks import checkpoint_hook
from mmengine.runner import find_latest_checkpoint, save_checkpoint

from mmdet_shufflenetv2.compat import apply_tool_patches
from mmdet_shufflenetv2.compat.atomic_files import remove_abandoned, whole_file

apply_tool_patches()


def test_the_old_file_is_readable_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / 'file'
    path.write_text('old')
    with whole_file(path, 'w') as file:
        file.write('new')
        file.flush()
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'
    with whole_file(tmp_path / 'new' / 'folder' / 'file') as file:
        file.write(b'content')
    assert os.listdir(tmp_path / 'new' / 'folder') == ['file']


def test_an_error_names_the_file_it_is_about_and_leaves_nothing(tmp_path):
    path = str(tmp_path / 'file')
    for other in None, 'other':
        with pytest.raises(OSError, match='space') as error, whole_file(path):
            raise OSError(errno.ENOSPC, 'No space left', other)
        assert error.value.filename == (other or path)
    with pytest.raises(KeyboardInterrupt), whole_file(path):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_link_stays_a_link_and_a_file_keeps_its_mode(tmp_path):
    target, link = tmp_path / 'target', tmp_path / 'link'
    target.write_bytes(b'old')
    target.chmod(0o640)
    link.symlink_to(target)
    get_file_backend(str(link)).put(b'new', link)
    assert link.is_symlink()
    assert target.read_bytes() == b'new'
    assert target.stat().st_mode & 0o777 == 0o640


def test_mmengine_writes_through_the_atomic_backend(tmp_path, monkeypatch):
    named = get_file_backend(backend_args=dict(backend='local'))
    assert type(named) is type(get_file_backend(str(tmp_path)))
    replaced = []
    replace = os.replace
    monkeypatch.setattr(
        os, 'replace', lambda *a: replaced.append(a) or replace(*a)
    )
    save_checkpoint(dict(state_dict={}), str(tmp_path / 'last.pth'))
    mmengine.dump(dict(a=1), tmp_path / 'results.json')
    mmengine.dump(dict(a=1), tmp_path / 'results.pkl')
    assert [target.name for _, target in replaced] == [
        'last.pth',
        'results.json',
        'results.pkl',
    ]


def test_a_killed_process_leaves_the_old_checkpoint_and_litter_to_remove(
    tmp_path, monkeypatch
):
    path = tmp_path / 'last.pth'
    save_checkpoint(dict(state_dict={}), str(path))
    before = path.read_bytes()

    def kill(descriptor: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(os, 'fsync', kill)
    child = os.fork()
    if not child:
        try:
            get_file_backend(str(path)).put(b'new', path)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert path.read_bytes() == before
    (litter,) = tmp_path.glob('.last.pth.*')
    assert remove_abandoned(tmp_path) == [litter]
    assert os.listdir(tmp_path) == ['last.pth']


def test_the_note_of_the_last_checkpoint_is_atomic_too(tmp_path):
    note = tmp_path / 'last_checkpoint'
    note.write_text('epoch_1.pth')
    with checkpoint_hook.open(str(note), 'w') as file:
        file.write('epoch_2.pth')
        file.flush()
        assert find_latest_checkpoint(str(tmp_path)) == 'epoch_1.pth'
    assert find_latest_checkpoint(str(tmp_path)) == 'epoch_2.pth'
