import csv
import json
from itertools import pairwise

import pytest
from matplotlib.image import imread

from mmdet_shufflenetv2.analysis.picture import draw
from mmdet_shufflenetv2.analysis.table import write_csv, write_json
from mmdet_shufflenetv2.analysis.trace import trace_of, write_trace


def test_csv_has_a_row_for_each_layer_with_hand_computed_values(
    analysis, tmp_path
):
    path = tmp_path / 'layers.csv'
    write_csv(analysis, path)
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


def test_json_is_plain_and_complete(analysis, tmp_path):
    path = tmp_path / 'analysis.json'
    write_json(analysis, path)
    found = json.loads(path.read_text())
    assert found['format'] == 1
    assert found['flops'] == 1024
    assert found['ms']['median'] == analysis.ms
    assert len(found['layers']) == len(analysis.layers)
    assert found['receptive_fields']['level 0'] == {
        'size': [3, 3],
        'stride': [2, 2],
        'whole_by': None,
        'effective_size': 2.0,
    }
    assert found['advice'][0]['ms'] >= found['advice'][-1]['ms']
    assert sum(found['kinds_ms'].values()) == pytest.approx(analysis.ms)


def test_trace_is_valid_json_of_complete_events(analysis, tmp_path):
    path = tmp_path / 'trace.json'
    write_trace(analysis, path)
    events = json.loads(path.read_text())['traceEvents']
    slices = [event for event in events if event['ph'] == 'X']
    assert all(event['dur'] >= 0 and event['ts'] >= 0 for event in slices)
    named = {e['tid'] for e in events if e['name'] == 'thread_name'}
    assert {event['tid'] for event in slices} == named


def test_trace_has_every_operation_end_to_end(analysis):
    events = trace_of(analysis)['traceEvents']
    names = {e['tid']: e['args'] for e in events if e['name'] == 'thread_name'}
    track = [
        e
        for e in events
        if e['ph'] == 'X' and names[e['tid']]['name'] == 'operations'
    ]
    assert [e['name'] for e in track] == [op.name for op in analysis.recorded]
    for before, after in pairwise(track):
        assert after['ts'] == pytest.approx(before['ts'] + before['dur'])
    assert track[-1]['ts'] + track[-1]['dur'] == pytest.approx(
        1e3 * (analysis.ms - 0.5)
    )


def test_slices_of_a_track_nest(analysis):
    """Perfetto stacks slices of a thread by their times alone."""
    events = [e for e in trace_of(analysis)['traceEvents'] if e['ph'] == 'X']
    for tid in {e['tid'] for e in events}:
        stack = []
        track = [e for e in events if e['tid'] == tid]
        for event in sorted(track, key=lambda e: (e['ts'], -e['dur'])):
            while stack and stack[-1] <= event['ts'] + 1e-6:
                stack.pop()
            end = event['ts'] + event['dur']
            assert not stack or end <= stack[-1] + 1e-6
            stack.append(end)


def test_picture_is_drawn(analysis, tmp_path):
    path = tmp_path / 'analysis.png'
    draw(analysis, path)
    picture = imread(path)
    assert picture.shape[0] > 1000
    # Something of every colour of the plots is on it.
    assert picture[..., :3].std() > 0.05
