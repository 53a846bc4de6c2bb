import argparse

import pytest
import torch

from mmdet_shufflenetv2.measure import ops
from mmdet_shufflenetv2.measure.command import add_common_arguments


@pytest.mark.parametrize('name', ops.CASES)
def test_rois_lie_in_their_images_and_repeat(name):
    case = ops.CASES[name]
    rois = ops.random_rois(case)
    assert rois.shape == (case.rois, 5)
    torch.testing.assert_close(rois, ops.random_rois(case))
    assert (rois[:, 3:] > rois[:, 1:3]).all()
    assert (rois[:, 1:] >= 0).all()
    assert (rois[:, 3] <= case.width * case.stride).all()
    assert (rois[:, 4] <= case.height * case.stride).all()
    counts = rois[:, 0].long().bincount()
    assert counts.tolist() == [case.rois // case.images] * case.images


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(ops.CASES, 'tiny', ops.Case(2, 98, 5, 6, 16, 4))


def cases_of(*words):
    parser = argparse.ArgumentParser()
    ops.add_arguments(parser)
    add_common_arguments(parser, ops.COMMAND)
    args = parser.parse_args([*words, '--case', 'tiny', '--quick'])
    return ops.cases(args)


@pytest.mark.parametrize('op', ops.OPS)
def test_one_record_per_layout_and_pass(op):
    found = [
        {**case.key, **row}
        for case in cases_of('--op', op)
        for row in case.measure()
    ]
    assert len(found) == 4
    assert len({(row['map_layout'], row['passes']) for row in found}) == 4
    assert all(row['median_ms'] > 0 and row['rois'] == 4 for row in found)
    assert all(row.keys() == set(ops.COMMAND.columns) for row in found)


@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'bf16'])
def test_the_recorded_precision_and_layout_are_those_that_are_timed(
    precision, monkeypatch
):
    seen = set()

    def noting(pool):
        def call(ps_map, rois, *args, **kwargs):
            seen.add((pool.__name__, ps_map.dtype, rois.dtype))
            layouts.add(ps_map.is_contiguous())
            return pool(ps_map, rois, *args, **kwargs)

        return call

    ours, theirs, extra = ops.OPS['ps_roi_align']
    monkeypatch.setitem(ops.OPS, 'ps_roi_align', (noting(ours), theirs, extra))
    for case in cases_of('--op', 'ps_roi_align', '--precision', precision):
        layouts = set()
        case.measure()
        dtype = case.setting.dtype
        assert seen == {('ps_roi_align', dtype, dtype)}
        assert layouts == {case.setting.layout == 'contiguous'}
        assert (case.key['map_layout'] == 'as torchvision') in layouts
