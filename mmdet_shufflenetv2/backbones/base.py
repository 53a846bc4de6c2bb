"""What every backbone family shares.

A family is one file. Its constructor calls this one, sets its stem, and adds
its stages, none after the last level asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise

import torch
import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..arguments import check_choice, whole_number
from ..compat.input_format import InputFormat
from ..compat.weight_formats import WeightFormat, formats_of_family, within
from .pretrained import init_configs, init_log, is_pretrained, load_pretrained

SCRATCH_INIT = (
    # fan_in, unlike fan_out, gives depthwise kernels their true fan, k * k.
    dict(type='Kaiming', layer='Conv2d', mode='fan_in'),
    dict(type='Constant', layer=['_BatchNorm', 'GroupNorm'], val=1, bias=0),
)


class StagedBackbone(BaseModule):
    """A stem followed by named stages, some of which are returned.

    Most families also take ``strides`` (of each stage's first unit),
    ``dilations`` (of each stage; see `add_stages`), ``norm_cfg`` and
    ``act_cfg`` (mmcv's types of normalisation and activation; None for none).
    None leaves strides and dilations as published.

    Args:
        level_names: all stages the network has, in order; those after the
            last one asked for are not built, so every parameter takes part
            in training.
        out_indices: indices of the levels to return; None means all.
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

    # Modules in front of the first stage.
    stem_names = ('stem',)
    # The rows of `compat.weight_formats` that weights of it may be in.
    family = ''
    # What its argument ``style`` may be, where it has one.
    styles: tuple[str, ...] = ()
    # What pretrained weights, once loaded, expect of the images.
    expected_input: InputFormat | None = None

    def __init__(
        self,
        level_names: Sequence[str],
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        channels_last: bool | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        init_cfg = init_cfg or [dict(cfg) for cfg in SCRATCH_INIT]
        init_configs(init_cfg)
        # By name, because a family may have one of mmdet's networks as its
        # second base, whose constructor and `train` are not to run.
        BaseModule.__init__(self, init_cfg)
        self.level_names = tuple(level_names)
        self.out_indices = _check_out_indices(out_indices, self.level_names)
        # Those that are built.
        self.stage_names = self.level_names[: self.out_indices[-1] + 1]
        self.frozen_stages = check_choice(
            'frozen_stages',
            frozen_stages,
            range(-1, len(self.stage_names) + 1),
        )
        self.norm_eval = check_choice('norm_eval', norm_eval, (True, False))
        self.with_cp = check_choice('with_cp', with_cp, (True, False))
        self.channels_last = check_choice(
            'channels_last', channels_last, (None, True, False)
        )
        self.feature_info: tuple[dict, ...] = ()

    def add_stages(
        self,
        unit: Callable[..., nn.Module],
        in_channels: int,
        widths: Sequence[Sequence[int]],
        strides: tuple[Sequence[int] | None, Sequence[int]],
        dilations: Sequence[int] | None,
        reduction: int = 4,
    ) -> tuple[int, int]:
        """Add stages of equal units, up to the last level asked for.

        Args:
            unit: called with the channels before and after it, its stride,
                and the dilations of its convolutions up to the strided one
                and of those after it.
            in_channels: channels that the stem emits.
            widths: output channels of each unit, per stage.
            strides: of each stage's first unit: what was asked for, and the
                network's own.
            dilations: of each stage. A stage's first unit takes the previous
                stage's, so that a network with a stride exchanged for a
                dilation computes what the strided one does, at more places,
                and can use its weights.
            reduction: pixels of the image per pixel of the stem's output.

        Returns:
            Channels and reduction of the last stage.
        """
        strides = per_stage('strides', *strides, allowed=(1, 2))
        dilations = per_stage('dilations', dilations, (1,) * len(widths))
        last_dilation = 1
        for name, units, stride, dilation in zip(
            self.stage_names, widths, strides, dilations, strict=False
        ):
            stage = []
            for out_channels in units:
                stage.append(
                    unit(
                        in_channels,
                        out_channels,
                        1 if stage else stride,
                        (dilation if stage else last_dilation, dilation),
                    )
                )
                in_channels = out_channels
            reduction *= stride
            last_dilation = dilation
            self.add_stage(name, stage, in_channels, reduction)
        return in_channels, reduction

    def add_stage(
        self,
        name: str,
        units: nn.Module | Sequence[nn.Module],
        out_channels: int,
        reduction: int,
    ) -> None:
        """Add the next stage.

        Args:
            name: one of ``stage_names``, part of checkpoint keys.
            units: one module, or several that run in order, each
                checkpointed by itself.
            out_channels: channels of the stage's output.
            reduction: pixels of the image per pixel of it, per side.
        """
        if not isinstance(units, nn.Module):
            units = UnitSequence(units, self.with_cp)
        self.add_module(name, units)
        if self.level_names.index(name) in self.out_indices:
            level = dict(
                module=name, num_chs=out_channels, reduction=reduction
            )
            self.feature_info += (level,)

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
        x = self._laid_out(x)
        for name in self.stem_names:
            x = getattr(self, name)(x)
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
        self.freeze_stages()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def freeze_stages(self) -> None:
        """Freeze what ``frozen_stages`` says; a constructor's last line."""
        if self.frozen_stages < 0:
            return
        stages = self.stage_names[: self.frozen_stages]
        for name in (*self.stem_names, *stages):
            module = getattr(self, name)
            module.eval()
            module.requires_grad_(False)

    def init_weights(self) -> None:
        """Set initial weights as ``init_cfg`` says.

        Pretrained weights are taken whole or not at all, in any naming that
        `load_pretrained` knows.

        Raises:
            ValueError: ``init_cfg`` is not one, or the checkpoint does not fit
                this network.
        """
        configs = init_configs(self.init_cfg)
        pretrained = [dict(c) for c in configs if is_pretrained(c)]
        with init_log(self) as note:
            # mmengine's own loader would skip, with a warning, what does not
            # fit.
            self.init_cfg = [c for c in configs if not is_pretrained(c)]
            super().init_weights()
            self.init_cfg = configs
            for config in pretrained:
                del config['type']
                load_pretrained(self, **config)
                note(f'Pretrained: loaded from {config["checkpoint"]}')

    @property
    def formats(self) -> tuple[WeightFormat, ...]:
        """What weights of such a network are found in."""
        return formats_of_family(self.family)

    @classmethod
    def formats_for(cls, config: Mapping) -> tuple[WeightFormat, ...]:
        """The same of a config, without building the network."""
        return formats_of_family(cls.family)

    @property
    def styles_of_these_shapes(self) -> tuple[str, ...]:
        """The styles in which all weights would have the same shapes."""
        return self.styles

    def weights_for_new_layers(
        self, missing: Sequence[str]
    ) -> dict[str, Tensor]:
        """Initial values of layers that a published network lacks.

        With them the network computes what the published one does. None, by
        default: then its weights do not fit.

        Args:
            missing: keys of this network that a checkpoint lacks.
        """
        return {}

    def rename_former_keys(self, state: dict, prefix: str) -> None:
        """Give weights of this backbone their names of today, in place.

        Args:
            state: a state dict, which may have more than the backbone's.
            prefix: of the backbone's keys in it.
        """
        inner = within(state, prefix)
        for each in self.formats:
            if each.is_former and each.recognises(inner):
                for key in inner:
                    name = each.to_ours(key) or key
                    state[prefix + name] = state.pop(prefix + key)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        self.rename_former_keys(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


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
        if not (self.with_cp and self.training):
            return super().forward(x)
        for unit in self:
            if torch.compiler.is_compiling():
                # A compiler recomputes values alone, not what is written.
                x = checkpoint(unit, x, use_reentrant=False)
            else:
                contexts = partial(_first_and_second_run, unit)
                x = checkpoint(
                    unit, x, use_reentrant=False, context_fn=contexts
                )
        return x


def _first_and_second_run(unit: nn.Module):
    return nullcontext(), norm_statistics_kept(unit)


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


def _check_out_indices(
    out_indices: Sequence[int] | None, names: Sequence[str]
) -> tuple[int, ...]:
    """Out indices as an ascending tuple of distinct levels."""
    if out_indices is None:
        return tuple(range(len(names)))
    indices = _whole_numbers(out_indices)
    if (
        not indices
        or any(index not in range(len(names)) for index in indices)
        or any(a >= b for a, b in pairwise(indices))
    ):
        levels = ', '.join(f'{i}: {name}' for i, name in enumerate(names))
        raise ValueError(
            'out_indices must be an ascending sequence of levels out of '
            f'{{{levels}}}, got {out_indices!r}'
        )
    return indices


def per_stage(
    name: str,
    values: Sequence[int] | None,
    default: Sequence[int],
    allowed: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """One number for each stage, or the network's own.

    Args:
        name: of the argument.
        values: what was given; None means the network's own.
        default: the network's own.
        allowed: what a value may be; None means any positive integer.

    Raises:
        ValueError: there is not one such number for each stage.
    """
    if values is None:
        return tuple(default)
    numbers = _whole_numbers(values)
    if len(numbers) != len(default) or any(
        number not in (allowed or range(1, 1 << 16)) for number in numbers
    ):
        kind = f'one of {allowed}' if allowed else 'a positive integer'
        raise ValueError(
            f'{name} must have {len(default)} values, each {kind}, got '
            f'{values!r}'
        )
    return numbers


def _whole_numbers(values: object) -> tuple[int | None, ...]:
    """Of a sequence, with None for other values; else nothing."""
    if not isinstance(values, Sequence):
        return ()
    return tuple(whole_number(value) for value in values)
