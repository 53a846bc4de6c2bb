"""mmengine's own checkpoints load; files that could run code do not."""

import collections
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from commands import python
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner import (
    CheckpointLoader,
    load_checkpoint,
    save_checkpoint,
)

from mmdet_shufflenetv2.compat.checkpoints import (
    CheckpointError,
    guard_loading,
)


def test_what_mmengine_stores_survives_the_file(tmp_path, monkeypatch):
    path = str(tmp_path / 'history.pth')
    # A dataset's metadata may come from a config file.
    meta = ConfigDict(classes=('a', 'b'), palette=[(1, 2, 3), (4, 5, 6)])
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    save_checkpoint(dict(meta=meta, history=history), path)
    # As in a process that has not created any yet.
    monkeypatch.setattr(HistoryBuffer, '_statistics_methods', {})
    guard_loading()
    loaded = CheckpointLoader.load_checkpoint(path)
    assert loaded['history'].data[0].tolist() == [1.0, 3.0]
    assert loaded['history'].statistics('max') == 3.0
    assert loaded['meta'] == meta


@pytest.mark.parametrize(
    'value',
    [
        np.array([True, False]),
        np.asfortranarray(np.random.rand(2, 3).astype('float32')),
        np.float64(1.5),
        np.uint8(200),
    ],
    ids=lambda value: f'{type(value).__name__}-{value.dtype}',
)
@pytest.mark.parametrize('core', ['core', '_core'])
def test_numbers_of_both_numpys_load(tmp_path, value, core):
    """NumPy 1 writes numpy.core into files, NumPy 2 numpy._core."""
    data = pickle.dumps(dict(value=value), protocol=2)
    own = np.float64(0).__reduce__()[0].__module__.encode()
    data = data.replace(own, f'numpy.{core}.multiarray'.encode())
    path = str(tmp_path / 'numbers.pth')
    # torch's zip format with `data` as the pickle.
    writer = torch._C.PyTorchFileWriter(path)
    writer.write_record('data.pkl', data, len(data))
    writer.write_end_of_file()
    loaded = CheckpointLoader.load_checkpoint(path)['value']
    assert type(loaded) is type(value)
    np.testing.assert_array_equal(loaded, value)


class Payload:
    """Pickles as a call that leaves a trace."""

    def __init__(self, function, *args) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call


def trace_left(trace) -> Payload:
    return Payload(os.system, f'touch {trace}')


MALICIOUS = {
    'os.system': lambda trace: trace_left(trace),
    'getattr': lambda trace: Payload(getattr, HistoryBuffer, '__init__'),
    'array of another type': lambda trace: Payload(
        np.zeros(1).__reduce__()[0], Payload, (0,), b'b'
    ),
    'a class': lambda trace: collections.deque([trace_left(trace)]),
}


@pytest.mark.parametrize('name', MALICIOUS)
@pytest.mark.parametrize('new_format', [False, True])
def test_a_malicious_checkpoint_is_rejected_without_running(
    tmp_path, name, new_format
):
    trace, path = tmp_path / 'trace', tmp_path / 'evil.pth'
    torch.save(
        dict(state_dict=MALICIOUS[name](trace)),
        path,
        _use_new_zipfile_serialization=new_format,
    )
    with pytest.raises(ValueError, match=r'evil\.pth is refused') as raised:
        load_checkpoint(torch.nn.Linear(2, 1), str(path))
    assert not trace.exists()
    assert 'weights_only=False' not in str(raised.value)


def test_every_scheme_of_the_loader_is_guarded(tmp_path, monkeypatch):
    """Downloaded files are guarded too."""
    trace, path = tmp_path / 'trace', tmp_path / 'evil.pth'
    torch.save(dict(state_dict=trace_left(trace)), path)
    monkeypatch.setattr(
        torch.hub,
        'download_url_to_file',
        lambda url, target, *_, **__: shutil.copy(path, target),
    )
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    for address in (
        'http://localhost/evil.pth',
        'https://localhost/evil.pth',
        'torchvision://resnet18',
        'open-mmlab://detectron2/resnet50_caffe',
        'mmcls://mobilenet_v2',
    ):
        with pytest.raises(ValueError, match='is refused'):
            CheckpointLoader.load_checkpoint(address)
    assert not trace.exists()


LOAD_AND_PRINT = """
import os, sys
from pathlib import Path
import mmdet_shufflenetv2.compat as compat
from mmengine.runner import CheckpointLoader
before = dict(os.environ)
path, trace = sys.argv[1:]
CheckpointLoader.load_checkpoint(path)
Path(trace).unlink()
compat.apply_tool_patches()
try:
    CheckpointLoader.load_checkpoint(path)
except ValueError as error:
    print(error)
assert dict(os.environ) == before
"""


def test_the_users_variable_counts_except_in_our_commands(tmp_path):
    """It keeps PyTorch's meaning, and nothing here changes it."""
    trace, path = tmp_path / 'trace', tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, x=trace_left(trace)), path)
    allowed = dict(TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1')
    output = python('-c', LOAD_AND_PRINT, path, trace, **allowed)
    assert 'is refused' in output
    assert not trace.exists()


def test_a_library_that_sets_the_variable_has_no_effect(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    trace, path = tmp_path / 'trace', tmp_path / 'evil.pth'
    torch.save(dict(state_dict=trace_left(trace)), path)
    with pytest.raises(ValueError, match='is refused'):
        load_checkpoint(torch.nn.Linear(2, 1), str(path))
    assert not trace.exists()


DAMAGES = {
    'empty': lambda data: b'',
    'half': lambda data: data[: len(data) // 2],
    'html': lambda data: b'<html>404 not found</html>',
    'plain pickle': lambda data: pickle.dumps(dict(a=1), protocol=4),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_the_error_names_a_broken_checkpoint(tmp_path, damage):
    path = tmp_path / 'broken.pth'
    save_checkpoint(dict(state_dict=dict(a=torch.rand(1000))), str(path))
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(ValueError, match=r'broken\.pth cannot be read'):
        load_checkpoint(torch.nn.Linear(2, 1), str(path))


@pytest.mark.parametrize(
    'content, message',
    [
        ([1, 2], 'list'),
        (torch.rand(3), 'Tensor'),
        (dict(state_dict=[1]), 'list, dict'),
        (dict(meta='epoch 3'), 'dict, str'),
    ],
)
def test_the_error_names_an_invalid_checkpoint(tmp_path, content, message):
    path = str(tmp_path / 'other.pth')
    torch.save(content, path)
    with pytest.raises(
        CheckpointError, match=rf'other\.pth is invalid: .*, got {message}$'
    ):
        CheckpointLoader.load_checkpoint(path)
