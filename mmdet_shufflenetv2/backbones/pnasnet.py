"""PNASNet-5.

Paper: "Progressive Neural Architecture Search",
https://arxiv.org/abs/1712.00559, Fig. 1 and section 5.2.
Original code: https://github.com/tensorflow/models, research/slim/nets/nasnet
(Apache 2.0), consulted for what the paper leaves open: what a cell does to
its inputs, and the channels of the first layers.
Written from the paper. Strided layers are padded evenly, as in the other
families, so that images may have any size; the original leaves the first
layer unpadded and pads the others as TensorFlow does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from torch import Tensor

from ..arguments import check_choice
from ..compat.foreign_families import PNASNET_FORMATS
from .base import StagedBackbone
from .pnasnet_cell import CELL, Cell
from .stages import Stage, check_fixed


@dataclass(frozen=True)
class Variant:
    """One network of section 5.2.

    Attributes:
        stem: output channels of the first convolution.
        cells: cells of each size; N in the paper.
        filters: channels of an operation in stage2; F in the paper.
    """

    stem: int
    cells: int
    filters: int


VARIANTS = {'mobile': Variant(32, 3, 54), 'large': Variant(96, 4, 216)}
NORM_CFG = dict(type='BN', eps=1e-3)
STAGES = 4


@MODELS.register_module()
class PNASNet(StagedBackbone):
    """PNASNet-5.

    Levels: 0 stage1, 1 stage2, 2 stage3 and 3 stage4, at strides 4, 8, 16
    and 32, each after the activation that the next cell begins with.

    Args:
        arch: ``'mobile'`` (N = 3, F = 54) or ``'large'`` (N = 4, F = 216).
        out_indices: levels to return, ascending. Nothing behind the last
            one is built.
        strides, dilations: None or 2 and 1 for every stage; cells are
            defined for a stride of 2, and without dilation.
        norm_cfg: type of normalisation.
        staged: ``frozen_stages``, ``norm_eval``, ``with_cp``,
            ``channels_last`` and ``init_cfg`` of `StagedBackbone`.

    Raises:
        ValueError: an argument is not one of the allowed values.
    """

    checkpoint_formats = PNASNET_FORMATS

    def __init__(
        self,
        arch: str = 'mobile',
        out_indices: Sequence[int] = (1, 2, 3),
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: dict | None = NORM_CFG,
        **staged,
    ):
        check_fixed('strides', strides, 2, STAGES)
        check_fixed('dilations', dilations, 1, STAGES)
        variant = VARIANTS[check_choice('arch', arch, VARIANTS)]
        super().__init__(
            stem=ConvModule(
                3,
                variant.stem,
                3,
                stride=2,
                padding=1,
                bias=False,
                norm_cfg=norm_cfg,
                act_cfg=None,
            ),
            levels=_plan(variant, norm_cfg),
            out_indices=out_indices,
            **staged,
        )

    def feature(self, state: tuple[Tensor, Tensor]) -> Tensor:
        """The activated output of a stage's last cell."""
        return F.relu(state[0])


def _plan(variant: Variant, norm_cfg: dict | None) -> list[Stage]:
    """Two cells that lead to stride 8, and N cells at each further size."""
    n, f = variant.cells, variant.filters
    stages = []
    before, previous = variant.stem, None
    shrink = False
    # (channels of the operations, of the first cell if it has others)
    for name, widths in (
        ('stage1', [f // 4]),
        ('stage2', [f // 2] + [f] * n),
        ('stage3', [2 * f] * n),
        ('stage4', [4 * f] * n),
    ):
        arguments = []
        for index, channels in enumerate(widths):
            stride = 1 if index else 2
            arguments.append((before, previous, channels, stride, shrink))
            before, previous = len(CELL) * channels, before
            shrink = stride == 2
        stages.append(
            Stage(
                name,
                before,
                4 << len(stages),
                partial(_cells, arguments, norm_cfg),
            )
        )
    return stages


def _cells(arguments: Sequence[tuple], norm_cfg: dict | None) -> list[Cell]:
    return [Cell(*each, norm_cfg) for each in arguments]
