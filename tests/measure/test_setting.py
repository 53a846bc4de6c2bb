import pytest
import torch

from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.measure.setting import (
    PRECISIONS,
    Setting,
    require_device,
)


@pytest.fixture(autouse=True)
def as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def test_apply_sets_the_threads():
    Setting(threads=3).apply()
    assert torch.get_num_threads() == 3


def test_denormal_numbers_cost_nothing_in_a_measurement():
    Setting().apply()
    tiny = torch.tensor([1e-40])
    assert (tiny * 1).item() == 0


@pytest.mark.gpu
@pytest.mark.parametrize('precision', PRECISIONS)
def test_tf32_is_used_when_asked_for_only(precision):
    Setting(device='cuda', precision=precision).apply()
    wanted = precision == 'tf32'
    assert torch.backends.cudnn.allow_tf32 == wanted
    assert torch.backends.cuda.matmul.allow_tf32 == wanted


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(precision='int8'), 'precision must be one of'),
        (dict(layout='nhwc'), 'layout must be one of'),
        (dict(mode='onnx'), 'mode must be one of'),
        (dict(clock='sun'), 'clock must be one of'),
        (dict(threads=0), 'threads: expected a positive integer, got 0'),
        (dict(mode='graph'), 'graph needs a CUDA device'),
        (dict(precision='tf32'), 'tf32 needs a CUDA device'),
        (dict(device='cuda', clock='cpu'), 'on the CPU only'),
    ],
    ids=str,
)
def test_what_is_impossible_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Setting(**options)


def test_a_device_that_is_not_there_is_refused():
    assert require_device('cpu:0') == require_device('cpu') == 'cpu'
    with pytest.raises(UserError, match='device: cuda:99 was asked for'):
        require_device('cuda:99')
    for name in 'tpu', 'xpu':
        with pytest.raises(UserError, match='expected cpu, cuda or cuda:N'):
            require_device(name)
