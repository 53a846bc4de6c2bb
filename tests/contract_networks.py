"""The networks that the contract of `backbones/test_contract.py` is for.

A new family joins by its rows in the zoo, all of which are outlined, and by
its smallest network here, which runs through every test.
"""

from mmdet.registry import MODELS

from mmdet_shufflenetv2.backbones import zoo
from mmdet_shufflenetv2.backbones.base import StagedBackbone


def levels(name: str, **changes) -> dict:
    """A network of the zoo that returns all its levels."""
    row = zoo.network(name)
    every = range(row.last_level + 1)
    return {**row.config, 'out_indices': every, **changes}


V2 = 'shufflenet_v2_x0_5'
V1 = 'shufflenet_v1_x0_5_g3'
WHOLE = (
    V2,
    'shufflenet_v2_50',
    V1,
    'mobilenet_v1_x0_25',
    'mobilenet_v2_x0_15',
    'xception_x0_5',
    'densenet_x0_5',
    'igcv2_0_25',
    'igcv3_d_0_7',
)
# Of these a test has time for two stages.
BEGINNINGS = (
    'se_shufflenet_v2_164',
    'shufflenet_v1_50_g3',
    'pnasnet_5',
    'condensenet_g8_c8',
    'nasnet_a_4_1056',
)
NETWORKS = {
    **{name: levels(name) for name in WHOLE},
    **{name: levels(name, out_indices=(0, 1)) for name in BEGINNINGS},
    'shufflenet_v2_star': levels('shufflenet_v2_star_x0_5'),
    'shufflenet_v2_se': levels(V2, with_se=True),
    'shufflenet_v2_residual': levels(V2, with_residual=True),
    'shufflenet_v2_authors': levels(V2, style='authors'),
    'shufflenet_v1_authors': levels('shufflenet_v1_x0_5_g8', style='authors'),
}
# They do not compute channels-last, and refuse to be told so.
CONTIGUOUS = {'condensenet_g8_c8', 'nasnet_a_4_1056'}
LATE = dict(strides=(2, 1, 1), dilations=(1, 2, 4))
LATER = dict(strides=(1, 2, 2, 1, 1), dilations=(1, 1, 1, 2, 4))
LATEST = dict(strides=(1, 2, 2, 1, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4, 4))
# Every stage from stride 8 on.
DILATED = {
    V2: LATE,
    'shufflenet_v2_star': LATE,
    'shufflenet_v2_authors': LATE,
    V1: LATE,
    'mobilenet_v1_x0_25': LATER,
    'igcv2_0_25': LATER,
    'mobilenet_v2_x0_15': LATEST,
    'xception_x0_5': LATE,
}
NETWORKS |= {
    f'{name}_dilated': levels(name, **LATE)
    for name in (V2, V1, 'xception_x0_5')
}
# Others are the host's and make promises of their own.
OURS = [
    name
    for name, row in zoo.NETWORKS.items()
    if issubclass(MODELS.get(row.config['type']), StagedBackbone)
]
