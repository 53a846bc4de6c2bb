"""Every network costs what the papers say it does."""

import pytest
import torch
import torch.nn as nn
from mmdet.registry import MODELS

from mmdet_shufflenetv2.backbones.zoo import NETWORKS, Classifier, network
from mmdet_shufflenetv2.paper.published import figures, values

MFLOPS, PARAMS_M = values('multiply-adds'), values('parameters')
SIZES = {
    each.key.row: each.key.input
    for each in figures()
    if each.quantity == 'multiply-adds'
}
V1_MFLOPS = {
    each.key.row: each.value
    for each in figures()
    if each.quantity == 'multiply-adds'
    and each.key.table in ('model zoo', 'ShuffleNet V1, Table 1')
}


def cost(name: str, **changes) -> tuple[float, float]:
    """Multiply-adds and parameters of a classifier, in millions.

    At the network's size of image with 1000 classes; of convolutions and
    fully connected layers.
    """
    row = network(name)
    config = dict(row.config, out_indices=(row.last_level,), **changes)
    with torch.device('meta'):
        model = Classifier(MODELS.build(config), channels=row.channels).eval()
        images = torch.empty(1, 3, row.input_size, row.input_size)
    products = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(
                lambda layer, _, out: products.append(
                    layer.weight[0].numel() * out.numel()
                )
            )
    model(images)
    parameters = sum(p.numel() for p in model.parameters())
    return sum(products) / 1e6, parameters / 1e6


def agrees(value: float, published: float) -> bool:
    """Within 3 %, or within the rounding of a figure of one decimal."""
    return abs(value - published) <= max(0.03 * published, 0.05)


@pytest.mark.parametrize(
    'name', [n for n in NETWORKS if n in MFLOPS and n not in V1_MFLOPS]
)
def test_cost_is_within_3_percent_of_the_papers(name):
    mflops, params_m = cost(name)
    row = network(name)
    assert f'{row.input_size}x{row.input_size}' == SIZES[name]
    assert agrees(params_m, PARAMS_M.get(name, params_m))
    if row.mflops is None:
        assert agrees(mflops, MFLOPS[name])
    else:
        # A network that cannot meet the figure says what it has and why.
        assert mflops == pytest.approx(row.mflops, rel=0.005)
        assert not agrees(mflops, MFLOPS[name])
        assert row.choice


@pytest.mark.parametrize('name', V1_MFLOPS)
def test_other_widths_and_groups_of_v1_cost_what_its_authors_say(name):
    mflops, params_m = cost(name)
    assert agrees(mflops, V1_MFLOPS[name])
    # Nobody published those of 1, 2 and 4 groups.
    assert agrees(params_m, PARAMS_M.get(name, params_m))


@pytest.mark.parametrize(
    'name', ['shufflenet_v2_x1_0', 'shufflenet_v2_x1_5', 'shufflenet_v2_x2_0']
)
def test_the_authors_style_is_what_the_paper_counts(name):
    mflops, params_m = cost(name, style='authors')
    assert round(mflops) == MFLOPS[name]
    assert agrees(params_m, PARAMS_M[name])


def test_v2_star_costs_little_more():
    for width in ('x0_5', 'x1_0', 'x1_5', 'x2_0'):
        plain, _ = cost(f'shufflenet_v2_{width}')
        star, _ = cost(f'shufflenet_v2_star_{width}')
        assert plain < star < 1.07 * plain
