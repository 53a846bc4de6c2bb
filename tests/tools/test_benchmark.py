import csv
import subprocess
import sys

from mmdet_shufflenetv2.benchmark.ops import CASES


def run(root, *arguments):
    return subprocess.run(
        [sys.executable, str(root / 'tools' / 'benchmark.py'), *arguments],
        capture_output=True,
        text=True,
        cwd=root,
    )


def test_ops_are_measured_and_recorded(root, tmp_path):
    out = tmp_path / 'ops.csv'
    case = 'train_480x360_s32'
    arguments = ['--op', 'ps_roi_pool', '--repeats', '1', '--threads', '1']
    done = run(root, 'ops', '--case', case, *arguments, '--out', str(out))
    assert done.returncode == 0, done.stderr
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row['case'] for row in rows] == [case] * 4
    assert {row['threads'] for row in rows} == {'1'}
    assert done.stdout.count(case) == len(rows)


def test_unknown_case_is_refused_with_the_known_ones(root):
    done = run(root, 'ops', '--case', 'nonsense')
    assert done.returncode == 2
    assert all(case in done.stderr for case in CASES)
