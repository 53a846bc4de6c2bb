"""Advice, text and tables of an analysis."""

import csv
import dataclasses

import pytest

from mmdet_shufflenetv2.analysis import advice
from mmdet_shufflenetv2.analysis.report import RECORDED, kind_rows
from mmdet_shufflenetv2.measure.records import Records
from mmdet_shufflenetv2.measure.setting import Setting, describe

changed = dataclasses.replace


def timed(analysis, times_ms, **changes):
    """The same analysis with other times of whole passes."""
    whole = analysis.times.whole._replace(times_ms=times_ms)
    times = changed(analysis.times, whole=whole)
    return changed(analysis, times=times, **changes)


def test_advice_is_sorted_and_costs_what_was_measured(analysis):
    ms = [each.ms for each in analysis.advice]
    assert ms == sorted(ms, reverse=True)
    (folded,) = (a for a in analysis.advice if a.how == advice.MEASURED)
    assert folded.ms == 4.0
    assert 'no gain: do compiled' in analysis.table()
    # The layer takes 1 ms, its twin half of that.
    (g1,) = (a for a in analysis.advice if a.text.startswith('G1'))
    assert g1.ms == pytest.approx(0.5)
    assert 'conv (4 -> 16 channels' in g1.text
    # Layers removed by folding are not also counted as element-wise.
    (g4,) = (a for a in analysis.advice if a.text.startswith('G4'))
    assert 'BatchNorm2d' not in g4.text
    unfolded = changed(analysis, ways={}).advice
    assert any('G4' in a.text and 'BatchNorm2d' in a.text for a in unfolded)


@pytest.mark.parametrize(
    'times, ms',
    [
        ([8.5, 8.5], 0.5),
        # Of 2 ms between operations, the part that the fastest passes had.
        ([9.0, 10.0, 11.0], 1.2),
        ([8.2, 20.0, 40.0], None),
    ],
)
def test_time_lost_on_a_busy_machine_is_not_attributed_to_python(
    analysis, times, ms
):
    found = [a.ms for a in timed(analysis, times).advice if 'Python' in a.text]
    assert found == ([] if ms is None else [pytest.approx(ms)])


def test_the_report_warns_of_times_that_cannot_be_trusted(analysis):
    def with_load(**changes):
        return changed(analysis, environment=analysis.environment | changes)

    assert 'explain' not in analysis.table()
    assert 'explain 47% of a pass' in timed(analysis, [17.0]).table()
    assert analysis.warnings == with_load(load='').warnings == []
    assert timed(analysis, [8.0, 10.0, 12.0]).warnings == ['spread 32%']
    # Constant load slows passes without spreading them.
    assert 'WARNING: all cores were busy' in with_load(load=3.1).table()
    assert with_load(load=3.1, clock='cpu').warnings == []


def test_csv_has_a_row_for_each_layer_with_hand_computed_values(
    analysis, tmp_path
):
    path = tmp_path / 'layers.csv'
    analysis.to_csv(path)
    with path.open(newline='') as file:
        rows = list(csv.DictReader(file))
    names = [layer.name for layer in analysis.layers]
    assert [row['layer'] for row in rows] == names
    # 4 -> 16 channels on 4x4: 16 * (4 + 16) + 64; 2 sqrt(16 * 1024) + 64.
    # 1024 multiply-adds in 1 ms, of a thousand.
    expected = dict(
        flops='1024',
        memory_access='384',
        memory_access_bound='320',
        access_ratio='1.2',
        bytes=str(4 * 384),
        breaks='G1',
        costs_ms='0.5',
        limit='memory',
        of_peak='1.024',
        share='0.1176',
    )
    assert {name: rows[0][name] for name in expected} == expected
    assert rows[1]['breaks'] == 'G4'
    assert rows[1]['kernel'] == ''


def test_a_record_has_a_row_for_each_kind_and_what_is_between(
    analysis, tmp_path, root
):
    environment = describe(Setting())
    analysis = changed(analysis, environment=environment)
    path = tmp_path / 'analysis_cpu.csv'
    # Rows can be appended to an earlier record.
    old = (root / 'results' / 'analysis_cpu.csv').read_text()
    path.write_text(old)
    records = Records(path, (*RECORDED, *environment))
    rows = records.append(kind_rows(analysis))
    assert path.read_text().startswith(old)
    assert [row['kind'] for row in rows] == list(analysis.kinds_ms)
    shares = sum(float(row['share']) for row in rows)
    assert shares == pytest.approx(1, abs=1e-3)
    # Half a millisecond of the pass lies between operations.
    expected = dict(network='unit', input='4x4', passes='2', status='ok')
    expected |= dict(pass_ms='8.5', unexplained_share='0.05882')
    expected |= dict(peak_gflops_per_s='0.001', mflops='0.001024')
    assert all(expected.items() <= row.items() for row in rows)
