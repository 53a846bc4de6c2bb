"""The table of formats: names translate one to one and identify a format."""

import pytest

from mmdet_shufflenetv2.backbones.zoo import outlined
from mmdet_shufflenetv2.compat.weight_formats import family_of

# One network of each family.
NETWORKS = (
    *('shufflenet_v2_x0_5', 'shufflenet_v1_x1_0_g3', 'mobilenet_v1_x1_0'),
    *('mobilenet_v2_x1_0', 'xception_x1_0', 'densenet_x1_0', 'igcv2_1_0'),
    *('pnasnet_5', 'igcv3_d_1_0', 'condensenet_g4_c4', 'nasnet_a_4_1056'),
    'senet',
)


@pytest.mark.parametrize('name', NETWORKS)
def test_names_round_trip_and_identify_family_and_format(name):
    network = outlined(name, None)
    likeness = f'{network.family} in the format of '
    for found in network.formats:
        keys = list(network.state_dict())
        if found.name == 'fastestdet':
            keys = [key for key in keys if not key.startswith('conv5')]
        theirs = [found.to_theirs(key) for key in keys]
        assert None not in theirs
        assert len(set(theirs)) == len(keys)
        assert [found.to_ours(key) for key in theirs] == keys
        theirs.append(f'{found.classifier}.weight')
        for prefix in '', 'backbone.':
            inner = [prefix + key for key in theirs]
            assert family_of(inner).startswith(likeness)
