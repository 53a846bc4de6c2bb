import pytest

from mmdet_shufflenetv2.analysis.roofline import Peaks, rising

PEAKS = Peaks(50.0, ((1_000, 100.0), (100_000, 50.0), (10_000_000, 20.0)))


def test_the_slower_of_computing_and_moving_is_the_floor():
    assert PEAKS.floor_ms(50_000_000, 1_000) == pytest.approx(1.0)
    assert PEAKS.floor_ms(1, 40_000_000) == pytest.approx(2.0)
    assert PEAKS.compute_ms(50_000_000) == pytest.approx(1.0)


def test_what_fits_a_cache_moves_as_fast_as_the_cache():
    assert PEAKS.gb_per_s(10) == 100.0
    assert PEAKS.gb_per_s(1_000) == 100.0
    assert PEAKS.gb_per_s(10**9) == 20.0
    assert PEAKS.memory_gb_per_s == 20.0


def test_rates_between_the_measured_sizes_lie_between_theirs():
    assert PEAKS.gb_per_s(10_000) == pytest.approx(75.0)
    assert PEAKS.gb_per_s(1_000_000) == pytest.approx(35.0)


def test_nothing_to_do_takes_no_time():
    assert PEAKS.floor_ms(0, 0) == 0


def test_a_small_copy_is_as_fast_as_any_larger_one():
    measured = [(1, 5.0), (2, 90.0), (3, 60.0), (4, 70.0)]
    assert rising(measured) == ((1, 90.0), (2, 90.0), (3, 70.0), (4, 70.0))
