import pytest
from mmengine.config import Config

from mmdet_shufflenetv2.backbones.zoo import NETWORKS
from mmdet_shufflenetv2.catalogue import table7_rows
from mmdet_shufflenetv2.catalogue.detectors import network_of


@pytest.mark.parametrize('name', ['shufflenet_v2_x1_0', 'xception_x0_5'])
def test_network_is_recognised_whatever_levels_are_read(name):
    backbone = dict(NETWORKS[name].config, out_indices=(1,))
    assert network_of(backbone) == name


def test_network_with_another_stride_is_none_of_the_published(root):
    path = root / 'configs/lighthead_shufflenetv2_custom.py'
    assert network_of(Config.fromfile(path).model.backbone) is None


def test_table_7_has_a_row_per_config_by_complexity(root, with_runs):
    rows = table7_rows(root, with_runs())
    columns = [row['complexity'] for row in rows]
    assert columns == ['40M'] * 5 + ['140M'] * 5 + ['300M'] * 5 + ['500M'] * 5
    assert len({row['config'] for row in rows}) == 20
    for row in rows:
        target = row['config'].partition('(')[2].rstrip(')')
        assert (root / target).is_file()


def test_mmap_measured_on_coco_stands_beside_the_papers(root, with_runs):
    stem = 'lighthead_xception_x1_0'
    results = with_runs(
        (stem, 'COCO val2017', 0.271),
        (stem, 'COCO val2017', 0.2849),
        (stem, 'BCCD blood cells', 0.5),
        ('lighthead_xception_x0_5', 'BCCD blood cells', 0.5),
    )
    rows = {row['config']: row for row in table7_rows(root, results)}
    row = rows[f'[{stem}](configs/{stem}.py)']
    assert row['paper: mmAP'] == '29.0'
    assert row['here: mmAP'] == '28.5'
    assert [r for r in rows.values() if r['here: mmAP']] == [row]
