"""The published figures, and the ones a measured row gets."""

import pytest
from report_rows import detector, g1, network

from mmdet_shufflenetv2.measure.published import (
    annotate,
    figures,
    values,
)

GPU = dict(device='Card Y')
GUIDELINE = g1('1:12', 1, device='cpu')
NETWORK = network('shufflenet_v2_x1_0', 1, '140M', batch=8, **GPU)
OTHER = NETWORK | dict(network='shufflenet_v1_x1_0_g8', table='', column='')
UNITS = NETWORK | dict(
    network='10 units of xception, 116 channels', input='56x56', batch=1
)
UNITS |= dict(table='Appendix Table 1b', column='c64', device='cpu')
DETECTOR = detector('lighthead_shufflenetv1_x1_0', 1, input='1200x800', **GPU)


def test_a_figure_is_listed_once_and_names_its_source():
    found = figures()
    assert len({(each.key, each.quantity) for each in found}) == len(found)
    assert all(each.source and each.unit for each in found)


@pytest.mark.parametrize(
    'kind, row, expected',
    [
        ('guidelines', GUIDELINE, ['57.6', '1.323']),
        ('backbones', NETWORK, ['341', '1', '146']),
        (
            'backbones',
            UNITS,
            ['27', '0.7759', ''],
        ),
        ('detectors', DETECTOR, ['85', '0.5822']),
        # Another batch, device, size or network has no published speed.
        ('backbones', NETWORK | dict(batch=1), ['', '', '146']),
        ('backbones', NETWORK | dict(device='cpu'), ['', '', '146']),
        ('backbones', NETWORK | dict(input='320x320'), ['', '', '146']),
        ('backbones', OTHER, ['', '', '138']),
        ('detectors', DETECTOR | dict(device='cpu'), ['', '']),
        # The paper's images per second do not include training steps.
        ('detectors', DETECTOR | dict(part='training step'), ['', '']),
        ('ops', dict(op='ps_roi_align', device='cpu'), []),
    ],
)
def test_measured_row_gets_the_matching_figures_of_the_paper(
    kind, row, expected
):
    assert [*annotate(kind, row).values()] == expected


def test_networks_of_tables_6_and_8_have_an_error_and_a_cost():
    for quantity in ('top-1 error', 'multiply-adds'):
        assert {'resnet_50', 'pnasnet_5'} <= set(values(quantity))
    assert 'shufflenet_v1_x1_0_g8' not in values('top-1 error')
    # Table 8 takes precedence over networks that the paper retrained.
    assert values('top-1 error')['mobilenet_v2_x1_0'] == 28.0
