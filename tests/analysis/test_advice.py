import dataclasses

import pytest

from mmdet_shufflenetv2.analysis import advice
from mmdet_shufflenetv2.analysis.advice import advise, distances, no_gain
from mmdet_shufflenetv2.analysis.analysis import BETWEEN
from mmdet_shufflenetv2.analysis.receptive_field import Field
from mmdet_shufflenetv2.analysis.report import report


def test_kinds_and_what_is_between_make_up_the_whole(analysis):
    assert sum(analysis.kinds_ms.values()) == pytest.approx(analysis.ms)
    assert analysis.kinds_ms[BETWEEN] == 0.5
    of_parts = sum(sum(k.values()) for k in analysis.parts_ms.values())
    assert of_parts == pytest.approx(analysis.ms - 0.5)


def test_advice_is_sorted_by_what_it_brings(analysis):
    gains = [each.ms for each in advise(analysis)]
    assert gains == sorted(gains, reverse=True)
    assert len(gains) >= 4


def test_a_measured_way_brings_its_share_of_a_pass(analysis):
    (folded,) = (a for a in advise(analysis) if a.how == advice.MEASURED)
    assert 'fuse_conv_bn' in folded.text
    # In nine of ten rounds at least 1.9 times as fast as it is.
    assert folded.ms == pytest.approx(analysis.ms * (1 - 1 / 1.9))
    assert '1.90 to 2.10 times as fast' in folded.text


def test_ways_that_do_not_help_are_told_as_such(analysis):
    lines = no_gain(analysis)
    assert 'contiguous: 1.11 times as long' in lines
    assert 'compiled: no compiler is here' in lines
    assert not any('contiguous' in a.text for a in advise(analysis))


def test_an_unclear_difference_is_no_gain(analysis):
    unclear = dataclasses.replace(
        analysis.alternatives[0],
        speedup=analysis.alternatives[0].speedup._replace(p10=0.9),
    )
    analysis = dataclasses.replace(analysis, alternatives=[unclear])
    assert all(a.how != advice.MEASURED for a in advise(analysis))
    assert 'no clear difference (0.90 to 2.10' in no_gain(analysis)[0]


def test_a_broken_guideline_costs_what_its_layers_cost(analysis):
    (g1,) = (a for a in advise(analysis) if a.text.startswith('G1'))
    # The layer takes 1 ms, its replacement half of that.
    assert g1.ms == pytest.approx(0.5)
    assert 'conv (4 -> 16 channels' in g1.text


def test_folded_norms_are_not_counted_again_as_elementwise(analysis):
    def elementwise(analysis):
        return next(a for a in advise(analysis) if a.text.startswith('G4'))

    assert 'BatchNorm2d' not in elementwise(analysis).text
    unfolded = dataclasses.replace(analysis, alternatives=[])
    gain = elementwise(unfolded)
    assert 'BatchNorm2d' in gain.text
    assert gain.ms > elementwise(analysis).ms


def test_what_is_too_little_is_not_said(analysis):
    times = dataclasses.replace(
        analysis.times,
        whole=analysis.times.whole._replace(times_ms=[1e6]),
    )
    slow = dataclasses.replace(analysis, times=times, alternatives=[])
    said = [each.text for each in advise(slow)]
    assert said == [said[0]]
    assert 'Python' in said[0]


def test_distance_is_time_above_the_roofline(analysis):
    found = {each.name: each for each in distances(analysis)}
    conv = found['1x1 convolution']
    layer = analysis.layers[0]
    assert conv.ms == 1
    assert conv.floor_ms == pytest.approx(max(layer.flops, layer.bytes) / 1e3)
    assert conv.starting_ms == 0.5
    assert conv.slowest == 'conv'


def test_report_names_what_matters(analysis):
    text = report(analysis)
    for words in (
        'unit: 1 x 3 x 4 x 4',
        'torchvision.nms (2)',
        'What would help',
        'between operations',
        'theoretical 3',
        'Slowest of 4 layers',
        'weights 0.1 MB',
    ):
        assert words in text
    assert all(layer.name in text for layer in analysis.layers)
    # The shuffle takes longest, the others one operation each.
    assert '(root):shuffle' in report(analysis, most=1).splitlines()[-1]


def test_report_says_how_much_is_unexplained(analysis):
    assert 'explain' not in report(analysis)
    timing = analysis.times.whole
    for factor, words in (
        (2, 'explain 47% of a pass. The rest is Python'),
        (0.5, 'explain 188% of a pass. The rest is noise'),
    ):
        whole = timing._replace(
            times_ms=[factor * ms for ms in timing.times_ms]
        )
        times = dataclasses.replace(analysis.times, whole=whole)
        changed = dataclasses.replace(analysis, times=times)
        assert words in report(changed)


def test_what_a_busy_machine_took_is_not_put_down_to_python(analysis):
    quiet = max(a.ms for a in advise(analysis) if 'Python' in a.text)
    assert quiet == pytest.approx(0.5)
    timing = analysis.times.whole
    whole = timing._replace(times_ms=[9.0, 10.0, 11.0])
    times = dataclasses.replace(analysis.times, whole=whole)
    busy = dataclasses.replace(analysis, times=times)
    assert 'other work of this machine' in report(busy)
    (between,) = (a.ms for a in advise(busy) if 'Python' in a.text)
    # Of 2 ms that no operation took what the quickest passes had, too.
    assert between == pytest.approx(times.whole_ms.p10 - 8)
    whole = timing._replace(times_ms=[8.2, 20.0, 40.0])
    times = dataclasses.replace(analysis.times, whole=whole)
    busier = dataclasses.replace(analysis, times=times)
    assert not [a for a in advise(busier) if 'Python' in a.text]


def test_report_says_when_times_are_doubtful(analysis):
    assert 'DOUBTFUL' not in report(analysis)
    times = dataclasses.replace(
        analysis.times,
        whole=analysis.times.whole._replace(
            times_ms=[8.0, 10.0, 12.0], settled=False
        ),
    )
    text = report(dataclasses.replace(analysis, times=times))
    assert 'DOUBTFUL: warm-up did not settle, spread 32%, at a load' in text


def test_a_machine_that_was_busy_before_is_doubtful_without_a_spread(
    analysis,
):
    def said(**changes):
        environment = {**analysis.environment, **changes}
        return report(dataclasses.replace(analysis, environment=environment))

    text = said(load=3.1)
    assert 'DOUBTFUL: other work for all cores before it began' in text
    assert 'at a load of 3.1 on 2 cores' in text
    assert '--threads 1 --clock cpu' in text
    assert 'DOUBTFUL' not in said(load=2.0)
    assert 'DOUBTFUL' not in said(load=3.1, clock='cpu')


def test_report_says_what_random_weights_mean(analysis):
    changed = dataclasses.replace(
        analysis,
        threshold=0.25,
        request=dataclasses.replace(analysis.request, settled=False),
    )
    text = report(changed)
    assert 'score threshold was set to 0.25' in text
    assert '(random weights)' in text


def test_report_tells_the_whole_image_and_the_unknown_from_sizes(analysis):
    fields = {
        'beside': Field((3, 3), (2, 2), whole_by='mean'),
        'whole': Field(None, None, whole_by='mm'),
        'lost': Field(None, (4, 4), unknown='fft cannot be followed'),
    }
    text = report(dataclasses.replace(analysis, fields=fields, gradients={}))
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert 'theoretical 3 ' in lines['beside']
    assert lines['beside'].endswith('; beside the whole image, by mean')
    assert 'stride unknown' in lines['whole']
    assert 'theoretical whole image' in lines['whole']
    assert lines['whole'].endswith('; by mm')
    assert 'stride 4' in lines['lost']
    assert 'theoretical unknown (fft cannot be followed)' in lines['lost']


def test_report_says_once_why_there_are_no_gradients(analysis):
    changed = dataclasses.replace(
        analysis,
        fields=dict.fromkeys(('a', 'b'), *analysis.fields.values()),
        gradients={},
        gradient_problem='no room',
    )
    assert report(changed).count('no room') == 1
    assert '    effective: no room\n' in report(changed)


def test_report_of_a_quick_look_says_so_and_is_not_blamed_for_warm_up(
    analysis,
):
    request = dataclasses.replace(analysis.request, quick=True)
    whole = analysis.times.whole._replace(settled=False)
    times = dataclasses.replace(analysis.times, whole=whole)
    text = report(dataclasses.replace(analysis, request=request, times=times))
    assert 'a first look (--quick): 2 passes' in text
    assert 'DOUBTFUL' not in text


def test_guidelines_not_measured_on_all_layers_say_so(analysis):
    prices = [
        dataclasses.replace(price, ms=None)
        if price.breach.rule == 'G1'
        else price
        for price in analysis.prices
    ]
    analysis = dataclasses.replace(analysis, prices=prices)
    (line,) = (line for line in no_gain(analysis) if line.startswith('G1'))
    assert '1 layer (1 of them not measured)' in line
