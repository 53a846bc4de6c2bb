import csv
import dataclasses
import json

import pytest
import torch

from mmdet_shufflenetv2.analysis.exports import (
    keep,
    records_in,
    write_csv,
    write_json,
)
from mmdet_shufflenetv2.analysis.receptive_field import Field
from mmdet_shufflenetv2.engine.run_config import UsageError
from mmdet_shufflenetv2.measure.environment import describe
from mmdet_shufflenetv2.measure.setting import Setting


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
    lost = Field(None, None, unknown='fft cannot be followed')
    fields = {'lost': lost}
    write_json(dataclasses.replace(analysis, fields=fields), path)
    assert json.loads(path.read_text())['receptive_fields']['lost'] == {
        **dataclasses.asdict(lost),
        'effective_size': None,
    }
    assert found['advice'][0]['ms'] >= found['advice'][-1]['ms']
    assert sum(found['kinds_ms'].values()) == pytest.approx(analysis.ms)


def test_a_record_has_a_row_for_each_kind_and_what_is_between(
    analysis, tmp_path
):
    environment = describe(Setting())
    analysis = dataclasses.replace(analysis, environment=environment)
    path = tmp_path / 'analysis_cpu.csv'
    keep(analysis, records_in(path))
    keep(analysis, records_in(path))
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


def test_a_file_with_other_columns_is_not_added_to(tmp_path):
    path = tmp_path / 'analysis_cpu.csv'
    path.write_text('schema,network\n1,a\n')
    with pytest.raises(UsageError, match='its columns are'):
        records_in(path)
