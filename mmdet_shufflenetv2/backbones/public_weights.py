"""Public ImageNet weights: which networks have them, and how to get them.

A config names them by ``init_cfg=dict(type='Pretrained', checkpoint=URL)``;
mmengine downloads them once, into the cache of torch hub.
"""

import os
from collections.abc import Mapping

import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_torchvision_models

from ..errors import UserError
from .zoo import network_of

V2 = {
    width: f'torchvision://shufflenet_v2_{width}.imagenet1k_v1'
    for width in ('x0_5', 'x1_0', 'x1_5', 'x2_0')
}
# Published name of a network -> address. V2* has V2's: its extra convolutions
# then pass their input on. ShuffleNet V1's are of style 'mmpretrain'.
PUBLIC_WEIGHTS = {
    **{f'shufflenet_v2_{width}': url for width, url in V2.items()},
    **{f'shufflenet_v2_star_{width}': url for width, url in V2.items()},
    'mobilenet_v2_x1_0': 'torchvision://mobilenet_v2',
    'shufflenet_v1_x1_0_g3': (
        'https://download.openmmlab.com/mmclassification/v0/shufflenet_v1/'
        'shufflenet_v1_batch1024_imagenet_20200804-5d6cec73.pth'
    ),
}
RESNETS = {50: 'torchvision://resnet50', 101: 'torchvision://resnet101'}


def public_weights(backbone: Mapping) -> str | None:
    """The address of weights for a backbone; None if there are none.

    Args:
        backbone: as in a config.
    """
    # Strides, dilations and the like change where it computes, not what.
    config = {
        key: value
        for key, value in backbone.items()
        if key not in ('strides', 'dilations', 'norm_cfg')
    }
    if config.get('type') == 'ResNet':
        return RESNETS.get(config.get('depth'))
    return PUBLIC_WEIGHTS.get(network_of(config))


def fetch_weights(checkpoint: str) -> None:
    """See that weights are on this machine; download them if not.

    Args:
        checkpoint: path or address, as an ``init_cfg`` has it.

    Raises:
        UserError: they cannot be had; names three ways to go on.
    """
    try:
        CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    except (OSError, KeyError) as error:
        reason = getattr(error, 'reason', None) or error
        raise UserError(
            f'the starting weights {checkpoint} cannot be had: {reason}\n'
            f'One of these goes on:\n{_cache(checkpoint)}'
            '  --backbone-weights FILE   start from weights you have\n'
            '  --from-scratch            start from random weights, which '
            'gives other results'
        ) from error


def _cache(checkpoint: str) -> str:
    """The first way: where a copy of the file would be found."""
    scheme, _, name = checkpoint.partition('://')
    if scheme == 'torchvision':
        checkpoint = get_torchvision_models().get(name) or ''
    elif scheme not in ('http', 'https'):
        return ''
    folder = os.path.join(torch.hub.get_dir(), 'checkpoints')
    path = os.path.join(folder, os.path.basename(checkpoint))
    return f'  put a copy of {checkpoint}\n    at {path}\n'
