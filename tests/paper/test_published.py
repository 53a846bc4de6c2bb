"""The published figures, as the rest of the project reads them."""

import pytest

from mmdet_shufflenetv2.paper.published import (
    classification_results,
    published_params_m,
    published_results,
)


def test_every_network_of_tables_6_and_8_is_listed():
    results = published_results()
    table8 = results['table8_imagenet']
    names = {name for networks in table8.values() for name in networks}
    assert len(names) == sum(map(len, table8.values()))
    assert set(classification_results()) == (
        names | set(results['table6_large_models'])
    )


def test_every_published_number_of_parameters_finds_its_network():
    stated = {
        name: result.params_m
        for name, result in classification_results().items()
        if result.params_m is not None
    }
    others = set(published_params_m()) - set(stated)
    assert stated.items() <= published_params_m().items()
    # The authors' zoo has more networks than the paper.
    assert others <= set(published_results()['shufflenet_v1_others'])


def test_tables_that_state_a_network_twice_agree():
    results = published_results()
    found = classification_results()
    for width, row in results['table5_architecture']['channels'].items():
        assert found[f'shufflenet_v2_{width}'].mflops == row['mflops']
        assert found[f'shufflenet_v2_{width}'].params_m == row['params_m']
    for name, row in results['appendix_table2_large'].items():
        assert found[name].mflops == 1000 * row['gflops']


@pytest.mark.parametrize(
    'name, size',
    [
        ('mobilenet_v2_x0_4', 160),
        ('mobilenet_v2_x0_75', 192),
        ('mobilenet_v2_x1_0', 224),
    ],
)
def test_a_network_has_the_side_of_its_image(name, size):
    assert classification_results()[name].input_size == size
