"""Exported detectors beside others, each in a process of its own."""

import pytest

from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.measure import deploy
from mmdet_shufflenetv2.measure.setting import Setting
from mmdet_shufflenetv2.measure.timing import Timing


def test_files_that_are_given_are_compared_and_absent_ones_refused(tmp_path):
    path = tmp_path / 'other.onnx'
    path.touch()
    found = deploy.benchmarks([Setting()], against=[path], int8=[path, path])
    cases = [each.key['case'] for each in found]
    assert set(cases) == set(deploy.CASES)
    assert cases.count('other file') == len(deploy.LIGHT)
    without = deploy.benchmarks([Setting()])
    left = {each.key['case'] for each in without}
    assert left == set(deploy.CASES) - {'other file', 'int8'}
    with pytest.raises(UserError, match='no file'):
        deploy.benchmarks([Setting()], against=['absent.onnx'])
    with pytest.raises(UserError, match='precision fp32'):
        deploy.benchmarks([Setting(precision='bf16')])


def test_competitors_run_in_processes_of_their_own(monkeypatch):
    monkeypatch.setattr(deploy, 'SIDE', 8)
    seen = []

    def time(processes):
        seen.extend(each._process.pid for each in processes.values())
        return {
            n: Timing([p.elapsed_ms()], 0, True) for n, p in processes.items()
        }

    times = deploy.time_apart(time, [(deploy.product,)] * 2, Setting())
    assert len(set(seen)) == len(times) == 2
    assert all(each.times_ms[0] > 0 for each in times)
