"""What is made of an analysis: advice, text, tables, the picture."""

import csv
import dataclasses
import json

import pytest
import torch

from mmdet_shufflenetv2.analysis import advice
from mmdet_shufflenetv2.analysis.advice import distances, no_gain
from mmdet_shufflenetv2.analysis.operations import BETWEEN
from mmdet_shufflenetv2.analysis.receptive_field import Field
from mmdet_shufflenetv2.analysis.tables import RECORDED, kind_rows
from mmdet_shufflenetv2.measure.environment import describe
from mmdet_shufflenetv2.measure.records import Records
from mmdet_shufflenetv2.measure.setting import Setting


def changed(analysis, **changes):
    return dataclasses.replace(analysis, **changes)


def timed(analysis, times_ms, **changes):
    """The same with other times of whole passes."""
    whole = analysis.times.whole._replace(times_ms=times_ms, **changes)
    times = dataclasses.replace(analysis.times, whole=whole)
    return changed(analysis, times=times)


def texts(analysis) -> list[str]:
    return [each.text for each in analysis.advice]


def test_kinds_and_what_is_between_make_up_the_whole(analysis):
    assert sum(analysis.kinds_ms.values()) == pytest.approx(analysis.ms)
    assert analysis.kinds_ms[BETWEEN] == 0.5
    of_parts = sum(sum(k.values()) for k in analysis.parts_ms.values())
    assert of_parts == pytest.approx(analysis.ms - 0.5)


def test_advice_is_sorted_by_what_it_brings(analysis):
    gains = [each.ms for each in analysis.advice]
    assert gains == sorted(gains, reverse=True)
    assert len(gains) >= 4


def test_a_measured_way_brings_its_share_of_a_pass(analysis):
    (folded,) = (a for a in analysis.advice if a.how == advice.MEASURED)
    assert 'fuse_conv_bn' in folded.text
    # In nine of ten rounds at least 1.9 times as fast as it is.
    assert folded.ms == pytest.approx(analysis.ms * (1 - 1 / 1.9))
    assert '1.90 to 2.10 times as fast' in folded.text


def test_ways_that_do_not_help_are_told_as_such(analysis):
    lines = no_gain(analysis)
    assert 'contiguous: 1.11 times as long' in lines
    assert 'compiled: no compiler is here' in lines
    assert not any('contiguous' in text for text in texts(analysis))


def test_an_unclear_difference_is_no_gain(analysis):
    first = analysis.alternatives[0]
    unclear = dataclasses.replace(
        first, speedup=first.speedup._replace(p10=0.9)
    )
    analysis = changed(analysis, alternatives=[unclear])
    assert all(a.how != advice.MEASURED for a in analysis.advice)
    assert 'no clear difference (0.90 to 2.10' in no_gain(analysis)[0]


def test_a_broken_guideline_costs_what_its_layers_cost(analysis):
    (g1,) = (a for a in analysis.advice if a.text.startswith('G1'))
    # The layer takes 1 ms, its twin half of that.
    assert g1.ms == pytest.approx(0.5)
    assert 'conv (4 -> 16 channels' in g1.text


def test_guidelines_not_measured_on_all_layers_say_so(analysis):
    breaches = [
        dataclasses.replace(each, ms=None) if each.rule == 'G1' else each
        for each in analysis.breaches
    ]
    analysis = changed(analysis, breaches=breaches)
    (line,) = (line for line in no_gain(analysis) if line.startswith('G1'))
    assert '1 layer (1 of them not measured)' in line


def test_folded_norms_are_not_counted_again_as_elementwise(analysis):
    def elementwise(analysis):
        return next(a for a in analysis.advice if a.text.startswith('G4'))

    assert 'BatchNorm2d' not in elementwise(analysis).text
    gain = elementwise(changed(analysis, alternatives=[]))
    assert 'BatchNorm2d' in gain.text
    assert gain.ms > elementwise(analysis).ms


def test_what_is_too_little_is_not_said(analysis):
    (said,) = texts(changed(timed(analysis, [1e6]), alternatives=[]))
    assert 'Python' in said


def test_what_a_busy_machine_took_is_not_put_down_to_python(analysis):
    def python_ms(analysis):
        return [a.ms for a in analysis.advice if 'Python' in a.text]

    assert python_ms(analysis) == [pytest.approx(0.5)]
    busy = timed(analysis, [9.0, 10.0, 11.0])
    assert 'other work of this machine' in busy.table()
    # Of 2 ms that no operation took what the quickest passes had, too.
    assert python_ms(busy) == [pytest.approx(busy.times.whole_ms.p10 - 8)]
    assert python_ms(timed(analysis, [8.2, 20.0, 40.0])) == []


def test_distance_is_time_above_the_roofline(analysis):
    found = {each.name: each for each in distances(analysis)}
    conv, layer = found['1x1 convolution'], analysis.layers[0]
    assert conv.ms == 1
    assert conv.floor_ms == pytest.approx(max(layer.flops, layer.bytes) / 1e3)
    assert conv.starting_ms == 0.5
    assert conv.slowest == 'conv'


def test_the_report_names_what_matters(analysis):
    text = analysis.table()
    for words in (
        'unit: 1 x 4 x 4 x 4',
        'torchvision.nms (2)',
        'What would help',
        'between operations',
        'theoretical 3',
        'Slowest of 4 layers',
        'weights 0.1 MB',
        'a note',
        'GMAC/s',
    ):
        assert words in text
    assert all(layer.name in text for layer in analysis.layers)
    # The shuffle takes longest, the others one operation each.
    assert '(root):shuffle' in analysis.table(most=1).splitlines()[-1]


@pytest.mark.parametrize(
    'factor, words',
    [
        (1, ''),
        (2, 'explain 47% of a pass. The rest is Python'),
        (0.5, 'explain 188% of a pass. The rest is noise'),
    ],
)
def test_the_report_says_how_much_is_unexplained(analysis, factor, words):
    text = timed(analysis, [factor * analysis.ms] * 2).table()
    assert words in text
    assert ('explain' in text) == bool(words)


def test_the_report_warns_of_times_that_cannot_be_trusted(analysis):
    assert 'WARNING' not in analysis.table()
    text = timed(analysis, [8.0, 10.0, 12.0], settled=False).table()
    assert 'WARNING: warm-up did not settle, spread 32%, at a load' in text
    text = changed(
        analysis, times=dataclasses.replace(analysis.times, repeats=False)
    ).table()
    assert 'WARNING: every pass executes other operations' in text


def test_a_machine_that_was_busy_before_is_warned_of_without_a_spread(
    analysis,
):
    def said(**changes):
        environment = {**analysis.environment, **changes}
        return changed(analysis, environment=environment).table()

    text = said(load=3.1)
    assert 'WARNING: other work for all cores before it began' in text
    assert 'at a load of 3.1 on 2 cores' in text
    assert '--threads 1 --clock cpu' in text
    assert 'WARNING' not in said(load=2.0)
    assert 'WARNING' not in said(load=3.1, clock='cpu')


def test_a_quick_look_says_so_and_is_not_blamed_for_warm_up(analysis):
    quick = changed(
        timed(analysis, [analysis.ms] * 2, settled=False), is_quick=True
    )
    assert 'a first look (--quick): 2 passes' in quick.table()
    assert 'WARNING' not in quick.table()


def test_fields_that_are_larger_than_the_probe_or_unknown_say_so(analysis):
    text = changed(
        analysis,
        is_trained=False,
        fields={'far': Field((2048, 9), (4, 4), is_larger=True)},
        gradients={'near': torch.eye(4)},
    ).table()
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert 'stride 4 ' in lines['far']
    assert 'theoretical over 2048 x 9' in lines['far']
    assert lines['far'].endswith('effective not measured')
    assert 'theoretical unknown' in lines['near']
    assert lines['near'].endswith('2 (random weights)')


def test_what_was_not_found_out_is_in_the_report(analysis):
    text = changed(analysis, problems=['memory: no room']).table()
    assert 'not found out: memory: no room\n' in text


def test_csv_has_a_row_for_each_layer_with_hand_computed_values(
    analysis, tmp_path
):
    path = tmp_path / 'layers.csv'
    analysis.to_csv(path)
    with path.open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['layer'] for row in rows] == [
        layer.name for layer in analysis.layers
    ]
    conv = rows[0]
    # 4 -> 16 channels on 4x4: 16 * (4 + 16) + 64; 2 sqrt(16 * 1024) + 64.
    assert conv['flops'] == '1024'
    assert conv['memory_access'] == '384'
    assert conv['memory_access_bound'] == '320'
    assert conv['access_ratio'] == '1.2'
    assert conv['bytes'] == str(4 * 384)
    assert conv['breaks'] == 'G1'
    assert conv['costs_ms'] == '0.5'
    assert conv['limit'] == 'memory'
    # 1024 multiply-adds in 1 ms, of a thousand.
    assert float(conv['of_peak']) == pytest.approx(1.024)
    assert float(conv['share']) == pytest.approx(1 / analysis.ms, rel=1e-3)
    assert rows[1]['breaks'] == 'G4'
    assert rows[1]['kernel'] == ''


def test_layers_that_no_clock_saw_have_no_rate(analysis, tmp_path):
    layers = [dataclasses.replace(each, ms=0.0) for each in analysis.layers]
    still = changed(analysis, layers=layers)
    assert still.rows()[0]['gmacs_per_s'] == 0
    assert 'Slowest of 4' in still.table()
    still.plot(tmp_path / 'a.png')


def test_json_is_plain_and_complete(analysis, tmp_path):
    path = tmp_path / 'analysis.json'
    analysis.to_json(path)
    found = json.loads(path.read_text())
    assert found['flops'] == 1024
    assert found['ms']['median'] == analysis.ms
    assert found['detections'] == [3]
    assert found['size'] == [4, 4]
    assert len(found['layers']) == len(analysis.layers)
    assert found['receptive_fields']['level 0'] == {
        'size': [3, 3],
        'stride': [2, 2],
        'is_larger': False,
        'effective_size': 2.0,
    }
    assert found['advice'][0]['ms'] >= found['advice'][-1]['ms']
    assert sum(found['kinds_ms'].values()) == pytest.approx(analysis.ms)


def test_a_record_has_a_row_for_each_kind_and_what_is_between(
    analysis, tmp_path
):
    environment = describe(Setting())
    analysis = changed(analysis, environment=environment)
    path = tmp_path / 'analysis_cpu.csv'
    for _ in range(2):
        records = Records(path, (*RECORDED, *environment))
        records.append(kind_rows(analysis))
    with path.open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(analysis.kinds_ms)
    first = rows[: len(analysis.kinds_ms)]
    assert [row['kind'] for row in first] == list(analysis.kinds_ms)
    assert sum(float(row['share']) for row in first) == pytest.approx(
        1, abs=1e-3
    )
    for row in first:
        assert row['network'] == 'unit'
        assert row['input'] == '4x4'
        # Half a millisecond of the pass lies between operations.
        assert float(row['unexplained_share']) == pytest.approx(
            0.5 / analysis.ms, rel=1e-3
        )
        assert float(row['mflops']) == 1024 / 1e6
        assert row['torch'] == torch.__version__


@pytest.mark.parametrize(
    'field', [Field((3, 3), (2, 2)), Field((64, 64), (2, 2), True), None]
)
def test_the_picture_is_drawn(analysis, tmp_path, field):
    from matplotlib.image import imread

    fields = {} if field is None else {'level 0': field}
    path = tmp_path / 'analysis.png'
    changed(analysis, fields=fields).plot(path)
    picture = imread(path)
    assert picture.shape[0] > 1000
    # Something of every colour of the plots is on it.
    assert picture[..., :3].std() > 0.05
