"""The table of the paper's networks, and their costs."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_shufflenetv2.backbones.zoo import (
    NETWORKS,
    Classifier,
    build_classifier,
    network_of,
)
from mmdet_shufflenetv2.measure.flops import macs

V2 = NETWORKS['shufflenet_v2_x1_0'].config


def test_costs_match_the_published_ones_or_are_explained(root):
    """Reads the table in docs/, which a test of `paper` recomputes."""
    text = (root / 'docs/networks.md').read_text('utf-8')
    table = text.split('<!-- table networks')[1].split('<!-- end')[0]
    lines = [line.strip('| ').split(' | ') for line in table.splitlines()[3:]]
    costs, far = {}, set()
    for name, _, mflops, here, _, params_m, params_here, _, note in lines:
        costs[name] = float(here)
        for published, value in (mflops, here), (params_m, params_here):
            if published != 'not published':
                # Figures with one decimal may differ by rounding.
                allowed = max(0.03 * float(published), 0.05)
                if abs(float(value) - float(published)) > allowed:
                    far.add(name)
                    assert note != '-'
    assert costs.keys() == NETWORKS.keys()
    assert far == {'shufflenet_v1_50_g3', 'igcv3_d_0_7', 'condensenet_g8_c8'}
    for width in ('x0_5', 'x1_0', 'x1_5', 'x2_0'):
        plain = costs[f'shufflenet_v2_{width}']
        assert plain < costs[f'shufflenet_v2_star_{width}'] < 1.07 * plain


@pytest.mark.parametrize('width, mflops', [(1.0, 146), (1.5, 299), (2.0, 591)])
def test_the_paper_counts_flops_of_the_authors_style(width, mflops):
    config = dict(V2, widen_factor=width, style='authors', out_indices=(3,))
    with torch.device('meta'):
        model = Classifier(MODELS.build(config)).eval()
        images = torch.empty(1, 3, 224, 224)
    assert round(macs(model, images) / 1e6) == mflops


def test_the_error_for_an_unknown_name_suggests_similar_ones():
    with pytest.raises(ValueError, match='shufflenet_v2_x1_0'):
        build_classifier('shufflenet_v2_x10')


def test_a_network_is_recognised_despite_irrelevant_options(root):
    frozen = dict(type='BN', requires_grad=False)
    options = dict(out_indices=(1,), with_cp=True, norm_cfg=frozen)
    for name in 'shufflenet_v2_x1_0', 'xception_x0_5':
        assert network_of(NETWORKS[name].config | options) == name
    other = dict(type='GN', num_groups=2)
    assert network_of(dict(V2, norm_cfg=other)) is None
    # This config has other strides.
    path = root / 'configs/lighthead_shufflenetv2_custom.py'
    assert network_of(Config.fromfile(path).model.backbone) is None
