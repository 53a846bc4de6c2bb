import pytest

from mmdet_shufflenetv2.benchmark.timing import interleave, ratio, spread


class FakeClock:
    """Seconds that pass only when somebody works."""

    def __init__(self):
        self.now, self.turns = 0.0, []

    def __call__(self):
        return self.now

    def worker(self, name, seconds):
        seconds = iter(seconds)

        def work():
            self.turns.append(name)
            self.now += next(seconds)

        return work


def test_competitors_take_turns_and_warm_up_is_dropped():
    clock = FakeClock()
    times = interleave(
        {
            'a': clock.worker('a', [9.0, 0.001, 0.002]),
            'b': clock.worker('b', [9.0, 0.003, 0.004]),
        },
        repeats=2,
        warmup=1,
        clock=clock,
    )
    assert clock.turns == ['a', 'b'] * 3
    assert times['a'] == pytest.approx([1.0, 2.0])
    assert times['b'] == pytest.approx([3.0, 4.0])


def test_spread_is_median_and_percentiles():
    result = spread([float(i) for i in (10, 0, 5, 3, 8, 1, 2, 4, 6, 7, 9)])
    assert result == pytest.approx((5.0, 1.0, 9.0))
    assert spread([3.0]) == (3.0, 3.0, 3.0)
    assert spread([1.0, 2.0]) == pytest.approx((1.5, 1.1, 1.9))


def test_ratio_is_of_medians_with_the_spread_of_rounds():
    slow, fast = [10.0, 20.0, 60.0], [5.0, 5.0, 6.0]
    result = ratio(slow, fast)
    assert result.median == pytest.approx(20 / 5)
    assert result.p10 == pytest.approx(2 + 0.2 * 2)
    assert result.p90 == pytest.approx(4 + 0.8 * 6)


def test_wrong_counts_are_refused():
    with pytest.raises(ValueError, match='samples: '):
        spread([])
    with pytest.raises(ValueError, match='got 1 and 2'):
        ratio([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match='repeats, warmup: '):
        interleave({}, repeats=0)
