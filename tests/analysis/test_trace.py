import json
from itertools import pairwise

import pytest

from mmdet_shufflenetv2.analysis.trace import trace_of, write_trace


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
