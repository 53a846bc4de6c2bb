import pytest
import torch

from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.measure.setting import (
    PRECISIONS,
    Setting,
    describe,
    require_device,
)


def test_threads_are_set_and_denormal_numbers_cost_nothing():
    Setting(threads=3).apply()
    assert torch.get_num_threads() == 3
    assert (torch.tensor([1e-40]) * 1).item() == 0


@pytest.mark.gpu
@pytest.mark.parametrize('precision', PRECISIONS)
def test_tf32_is_used_only_on_request(precision):
    Setting(device='cuda', precision=precision).apply()
    wanted = precision == 'tf32'
    assert torch.backends.cudnn.allow_tf32 == wanted
    assert torch.backends.cuda.matmul.allow_tf32 == wanted


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(precision='int8'), 'precision: expected one of'),
        (dict(mode='graph'), 'mode: graph does not work on cpu'),
        (dict(precision='tf32'), 'precision: tf32 does not work on cpu'),
        (dict(device='cuda', clock='cpu'), 'clock: cpu does not work on cuda'),
    ],
    ids=str,
)
def test_unsupported_values_are_rejected(options, words):
    with pytest.raises(ValueError, match=words):
        Setting(**options)


def test_an_absent_device_is_rejected():
    assert require_device('cpu:0') == require_device('cpu') == 'cpu'
    with pytest.raises(UserError, match='device: cuda:99 was requested'):
        require_device('cuda:99')
    for name in 'tpu', 'xpu':
        with pytest.raises(UserError, match='expected cpu, cuda or cuda:N'):
            require_device(name)


def test_the_setting_and_the_machine_are_recorded():
    columns = describe(Setting(threads=3, mode='folded', clock='cpu'))
    wanted = dict(device='cpu', threads=3, mode='folded', clock='cpu')
    assert wanted.items() <= columns.items()
    assert columns['cpu']
    assert columns['commit']
