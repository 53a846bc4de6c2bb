from time import perf_counter

import pytest
import torch

from mmdet_shufflenetv2.measure import ops
from mmdet_shufflenetv2.measure.timing import (
    Effort,
    host_stopwatch,
    interleave,
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(ops.CASES, 'tiny', ops.Case((2, 98, 5, 6), 16, 4))


def time(competitors):
    return interleave(
        competitors, host_stopwatch(perf_counter), Effort(1, 1, 0, 0)
    )


@pytest.mark.parametrize('name', ops.CASES)
def test_rois_lie_in_their_images_and_repeat(name):
    case = ops.CASES[name]
    rois = ops.random_rois(case)
    assert rois.shape == (case.rois, 5)
    torch.testing.assert_close(rois, ops.random_rois(case))
    assert (rois[:, 3:] > rois[:, 1:3]).all()
    assert (rois[:, 1:] >= 0).all()
    images, _, height, width = case.shape
    assert (rois[:, 3] <= width * case.stride).all()
    assert (rois[:, 4] <= height * case.stride).all()
    counts = rois[:, 0].long().bincount()
    assert counts.tolist() == [case.rois // images] * images


@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'bf16'])
def test_the_recorded_precision_and_layout_are_the_timed_ones(
    asked, precision, monkeypatch
):
    seen, layouts = set(), set()

    def noting(pool):
        def call(ps_map, rois, *args, **kwargs):
            seen.add((ps_map.dtype, rois.dtype))
            layouts.add(ps_map.is_contiguous())
            return pool(ps_map, rois, *args, **kwargs)

        return call

    ours, theirs, extra = ops.OPS['ps_roi_align']
    monkeypatch.setitem(ops.OPS, 'ps_roi_align', (noting(ours), theirs, extra))
    words = '--case', 'tiny', '--op', 'ps_roi_align', '--precision', precision
    found = asked('ops', *words)
    found += asked('ops', *words, '--layout', 'channels_last')
    timed = [case.setting.layout for case in found]
    assert timed == ['contiguous', 'channels_last']
    for case in found:
        layouts.clear()
        rows = case.measure(time)
        assert [row['passes'] for row in rows] == list(ops.PASSES)
        assert all({*row, *case.key} == {*ops.COLUMNS} for row in rows)
        dtype = case.setting.dtype
        assert seen == {(dtype, dtype)}
        assert layouts == {case.setting.layout == 'contiguous'}
