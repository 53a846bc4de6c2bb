"""The published figures, and what a measured row gets of them."""

import pytest

from mmdet_shufflenetv2.paper.published import (
    GUIDELINE_TABLES,
    annotate,
    figures,
    key_of,
    speeds,
    top1_error,
    values,
)


def test_a_figure_is_there_once_and_names_its_source():
    found = figures()
    assert len({(each.key, each.quantity) for each in found}) == len(found)
    assert all(each.source and each.unit for each in found)


def test_every_column_has_a_reference_and_ratios_to_it():
    table4 = {
        (key.row, key.column): speed.ratio
        for key, speed in speeds().items()
        if key.table == 'Table 4' and key.platform == 'gpu'
    }
    assert table4['ReLU yes, shortcut yes', 'x2'] == 1
    # 2842 batches per second to 2427: less time.
    assert table4['ReLU no, shortcut no', 'x1'] == 2427 / 2842
    for key, speed in speeds().items():
        is_network = key.table not in GUIDELINE_TABLES
        if is_network and 'shufflenet_v2' in key.row:
            assert speed.ratio == 1 or key.row.startswith('se_')


@pytest.mark.parametrize(
    'kind, row, expected',
    [
        (
            'guidelines',
            dict(guideline='G1', platform='arm', scale='x1', row='1:12'),
            dict(paper_per_s='57.6', paper_time_ratio='1.323'),
        ),
        (
            'backbones',
            dict(
                table='Table 8',
                column='40M',
                network='mobilenet_v2_x0_4',
                input='160x160',
                batch=1,
            ),
            dict(
                paper_per_s='33.2',
                paper_speed_ratio='0.5825',
                paper_mflops='43',
            ),
        ),
        (
            'backbones',
            dict(
                table='Appendix Table 1b',
                column='c64',
                network='10 units of xception, 116 channels',
                input='56x56',
                batch='1',
            ),
            dict(
                paper_per_s='27', paper_speed_ratio='0.7759', paper_mflops=''
            ),
        ),
        ('ops', dict(op='ps_roi_align'), {}),
    ],
)
def test_measured_row_gets_the_papers_figures(kind, row, expected):
    assert annotate(kind, {**row, 'device': 'cpu'}) == expected


def test_other_batch_device_or_network_has_no_published_speed():
    row = dict(
        table='Table 8',
        column='140M',
        network='shufflenet_v2_x1_0',
        input='224x224',
        batch=8,
        device='Card Y',
    )
    assert annotate('backbones', row)['paper_per_s'] == '341'
    for change in (
        dict(batch=1),
        dict(device='cpu'),
        dict(input='320x320'),
        dict(network='shufflenet_v1_x1_0_g8', table='', column=''),
    ):
        assert annotate('backbones', row | change)['paper_per_s'] == ''


def test_table_7_is_of_a_gpu_and_of_no_single_step():
    row = dict(
        config='lighthead_shufflenetv1_x1_0',
        column='140M',
        part='network',
        input='1200x800',
        batch='4',
        device='Card Y',
    )
    found = annotate('detectors', row)
    assert found == dict(paper_per_s='85', paper_speed_ratio='0.5822')
    for change in (
        dict(part='training step'),
        dict(device='cpu'),
        dict(config='mine', column=''),
    ):
        found = annotate('detectors', row | change)
        assert found == dict(paper_per_s='', paper_speed_ratio='')


def test_networks_of_tables_6_and_8_have_an_error_and_a_cost():
    for quantity in ('top-1 error', 'multiply-adds'):
        assert {'resnet_50', 'pnasnet_5'} <= set(values(quantity))
    assert top1_error('shufflenet_v2_x1_0') == 30.6
    assert top1_error('shufflenet_v1_x1_0_g8') is None
    assert top1_error(None) is None
    # Table 8 goes before what the paper trained anew.
    assert top1_error('mobilenet_v2_x1_0') == 28.0


def test_what_no_table_is_about_has_no_key():
    assert key_of('shuffle', dict(device='cpu', part='network')) is None
