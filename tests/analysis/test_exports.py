import csv
import json

import pytest

from mmdet_shufflenetv2.analysis.exports import write_csv, write_json


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
