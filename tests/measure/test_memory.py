import pytest
import torch

from mmdet_shufflenetv2.measure.memory import (
    is_out_of_memory,
    peak_mb,
    refused_rather_than_killed,
)

MB = 10**6


def test_peak_is_the_maximum_held_at_any_time():
    before = torch.empty(MB // 4 * 50)

    def work():
        first = torch.empty(MB // 4 * 20)
        second = torch.empty(MB // 4 * 10)
        del first
        return second, before[: MB // 4 * 5].clone()

    assert peak_mb(work, 'cpu') == pytest.approx(30, rel=0.01)


@pytest.mark.gpu
def test_peak_on_a_gpu():
    before = torch.empty(MB // 4 * 50, device='cuda')
    peak = peak_mb(lambda: before + 1, 'cuda')
    assert peak == pytest.approx(50, rel=0.05)


def test_an_allocation_that_does_not_fit_fails_at_once():
    with refused_rather_than_killed(100 * MB):
        torch.empty(10 * MB, dtype=torch.uint8)
        with pytest.raises(RuntimeError) as caught:
            torch.empty(1000 * MB, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError('size mismatch'))
    # The limit ends with the block.
    assert len(torch.empty(1000 * MB, dtype=torch.uint8)) == 1000 * MB
