"""What every backbone family of this package shares, written once.

A family describes itself by a stem and a list of stages (`Stage`). The base
class builds the stages that are needed and looks after ``out_indices``,
``feature_info``, freezing, ``norm_eval``, activation checkpointing and
initial weights.
"""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
import torch.nn as nn
from mmengine.model import BaseModule, update_init_info
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..arguments import check_choice
from ..compat.foreign_checkpoints import OWN_FORMAT, CheckpointFormat
from ..compat.input_format import InputFormat
from .pretrained import init_configs, is_pretrained, load_pretrained
from .stages import Stage, check_out_indices

SCRATCH_INIT = (
    # fan_in, unlike fan_out, gives depthwise kernels their true fan, k * k.
    dict(type='Kaiming', layer='Conv2d', mode='fan_in'),
    dict(type='Constant', layer=['_BatchNorm', 'GroupNorm'], val=1, bias=0),
)


@contextmanager
def norm_statistics_kept(module: nn.Module):
    """Let BN normalise by the batch but leave its running values alone.

    A checkpointed forward pass runs twice; only the first may count.
    """
    norms = [
        m
        for m in module.modules()
        if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # The second pass has to save the same tensors as the first, so the
        # running values must be updated, by nothing.
        norm.momentum = 0.0
        norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


class UnitSequence(nn.Sequential):
    """The units of one stage, run in order.

    Args:
        units: the modules.
        with_cp: in training keep only each unit's input, and compute its
            inside again in the backward pass.
    """

    def __init__(self, units: Sequence[nn.Module], with_cp: bool = False):
        super().__init__(*units)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        for unit in self:
            if self.with_cp and self.training:
                x = checkpoint(
                    unit,
                    x,
                    use_reentrant=False,
                    context_fn=lambda unit=unit: (
                        nullcontext(),
                        norm_statistics_kept(unit),
                    ),
                )
            else:
                x = unit(x)
        return x


class StagedBackbone(BaseModule):
    """A stem followed by named stages, some of which are returned.

    Args:
        stem: the modules in front of the first stage.
        levels: all stages the network has; those after the last one asked
            for are not built, so every parameter takes part in training.
        out_indices: indices of the levels to return.
        frozen_stages: -1 trains everything, 0 freezes the stem, k the stem
            and the first k stages: no gradient, BN in evaluation mode.
        norm_eval: keep every BN (SyncBN too) in evaluation mode.
        with_cp: trade computation for memory in training.
        channels_last: memory layout to compute and return in; None means
            channels-last on the CPU, where it was measured to be faster,
            and the input's own layout elsewhere.
        init_cfg: as everywhere in OpenMMLab; None means `SCRATCH_INIT`.

    Raises:
        ValueError: an argument is out of its range, or ``init_cfg``
            is not one.
    """

    # How the family's weights are named where they are published.
    checkpoint_formats = (OWN_FORMAT,)
    # What its argument ``style`` may be, where it has one.
    styles: tuple[str, ...] = ()
    # What pretrained weights, once loaded, expect of the images.
    expected_input: InputFormat | None = None

    def __init__(
        self,
        stem: nn.Module,
        levels: Sequence[Stage],
        out_indices: Sequence[int],
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        channels_last: bool | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        # By name, because a family may have one of mmdet's networks as its
        # second base, whose constructor and `train` are not to run.
        init_cfg = init_cfg or [dict(cfg) for cfg in SCRATCH_INIT]
        init_configs(init_cfg)
        BaseModule.__init__(self, init_cfg)
        self.out_indices = check_out_indices(
            out_indices, [stage.name for stage in levels]
        )
        stages = levels[: self.out_indices[-1] + 1]
        self.frozen_stages = check_choice(
            'frozen_stages', frozen_stages, range(-1, len(stages) + 1)
        )
        self.norm_eval = check_choice('norm_eval', norm_eval, (True, False))
        check_choice('with_cp', with_cp, (True, False))
        self.channels_last = check_choice(
            'channels_last', channels_last, (None, True, False)
        )
        self.stage_names = tuple(stage.name for stage in stages)
        self.feature_info = tuple(
            dict(
                module=stages[i].name,
                num_chs=stages[i].out_channels,
                reduction=stages[i].reduction,
            )
            for i in self.out_indices
        )
        self.level_names = tuple(stage.name for stage in levels)
        self.stem = stem
        for stage in stages:
            self.add_module(stage.name, UnitSequence(stage.build(), with_cp))
        self._freeze()

    def init_weights(self) -> None:
        """Set initial weights as ``init_cfg`` says.

        Pretrained weights are taken whole or not at all, from any format
        that `load_pretrained` knows.

        Raises:
            ValueError: ``init_cfg`` is not one, or the checkpoint does not fit
                this network.
        """
        configs = init_configs(self.init_cfg)
        pretrained = [c for c in configs if is_pretrained(c)]
        # mmengine's own loader would skip, with a warning, what does not fit.
        self.init_cfg = [c for c in configs if not is_pretrained(c)]
        super().init_weights()
        self.init_cfg = configs
        for config in pretrained:
            options = {k: v for k, v in config.items() if k != 'type'}
            load_pretrained(self, **options)
            if hasattr(self, '_params_init_info'):
                source = f'pretrained: {config["checkpoint"]}'
                update_init_info(self, init_info=source)

    @classmethod
    def formats_for(cls, config: Mapping) -> tuple[CheckpointFormat, ...]:
        """What weights of such a network are found in, without building it.

        Args:
            config: the network, as ``MODELS.build`` takes it.
        """
        return cls.checkpoint_formats

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of each returned level; a neck's ``in_channels``."""
        return tuple(level['num_chs'] for level in self.feature_info)

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per feature pixel of each returned level."""
        return tuple(level['reduction'] for level in self.feature_info)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of a batch of images.

        Args:
            x: (N, 3, H, W).

        Returns:
            One (N, ``num_chs``, ceil(H / ``reduction``),
            ceil(W / ``reduction``)) per level of ``feature_info``.
        """
        x = self.stem(self._laid_out(x))
        outputs = []
        for index, name in enumerate(self.stage_names):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                outputs.append(self.feature(x))
        return tuple(outputs)

    def feature(self, state: Tensor) -> Tensor:
        """The map a level returns, from what its stage hands to the next.

        The same, unless a family's stages hand on more than one map.
        """
        return state

    def _laid_out(self, x: Tensor) -> Tensor:
        """The images in the memory layout to compute in."""
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            # A compiler chooses layouts itself; a graph has none.
            return x
        channels_last = self.channels_last
        if channels_last is None:
            channels_last = x.device.type == 'cpu'
        if channels_last:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def train(self, mode: bool = True) -> 'StagedBackbone':
        """Set the mode; what is frozen stays in evaluation mode."""
        BaseModule.train(self, mode)
        self._freeze()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        names = ('stem', *self.stage_names)[: self.frozen_stages + 1]
        for name in names:
            module = getattr(self, name)
            module.eval()
            module.requires_grad_(False)
