import pytest
import torch

from mmdet_shufflenetv2.measure import ops
from mmdet_shufflenetv2.measure.setting import Setting
from mmdet_shufflenetv2.measure.timing import Effort


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


@pytest.mark.parametrize('op', ops.OPS)
def test_one_record_per_layout_and_pass(op, monkeypatch):
    monkeypatch.setitem(ops.CASES, 'tiny', ops.Case(2, 98, 5, 6, 16, 4))
    rows = ops.measure('tiny', op, Setting(), Effort(1, 1, 0, 0))
    assert len(rows) == 4
    assert len({(row['map_layout'], row['passes']) for row in rows}) == 4
    assert all(row['median_ms'] > 0 and row['rois'] == 4 for row in rows)
    columns = {'op', 'case', *rows[0]}
    assert columns == set(ops.COMMAND.columns)
