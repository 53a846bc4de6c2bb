"""What every backbone family shares.

A family is one file. Its constructor calls this one, sets its stem, and adds
its stages, none after the last level asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
import torch.nn as nn
from mmengine.model import BaseModule, PretrainedInit
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..arguments import check_choice, check_each, whole_numbers
from ..compat.input_format import InputFormat
from ..compat.weight_formats import WeightFormat, formats_of_family, within
from .layers import ACT_CFG, NORM_CFG
from .pretrained import load_pretrained

SCRATCH_INIT = (
    # fan_in, unlike fan_out, gives depthwise kernels their true fan, k * k.
    dict(type='Kaiming', layer='Conv2d', mode='fan_in'),
    dict(type='Constant', layer=['_BatchNorm', 'GroupNorm'], val=1, bias=0),
)
PRETRAINED = ('Pretrained', PretrainedInit)


class StagedBackbone(BaseModule):
    """A stem followed by named stages, some of which are returned.

    Args:
        level_names: all stages the network has; those after the last one
            asked for are not built.
        out_indices: levels to return, ascending; None means all.
        frozen_stages: -1 trains all, 0 freezes the stem, k the first k stages
            too: no gradient, BN in evaluation mode.
        norm_eval: keep every BN (SyncBN too) in evaluation mode.
        with_cp: trade computation for memory in training.
        channels_last: memory layout; None means channels-last on the CPU,
            where it was measured to be faster, elsewhere the input's.
        strides: of each stage's first unit; None means the published ones.
        dilations: of each stage; see `add_stages`.
        norm_cfg, act_cfg: mmcv's types of normalisation and activation; None
            for none.
        init_cfg: as everywhere in OpenMMLab; None means `SCRATCH_INIT`. Of
            type ``'Pretrained'`` it takes the options of `load_pretrained`.

    Raises:
        ValueError: an argument is out of its range.
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
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg or [dict(cfg) for cfg in SCRATCH_INIT])
        self.level_names = tuple(level_names)
        count = len(self.level_names)
        if out_indices is None:
            out_indices = range(count)
        self.out_indices = whole_numbers(out_indices)
        ascending = sorted(set(range(count)).intersection(self.out_indices))
        if not ascending or self.out_indices != tuple(ascending):
            raise ValueError(
                'out_indices must be an ascending sequence of levels, 0 to '
                f'{count - 1}, got {out_indices!r}'
            )
        # Those that are built.
        self.stage_names = self.level_names[: ascending[-1] + 1]
        stages = range(-1, len(self.stage_names) + 1)
        for name, value, allowed in (
            ('frozen_stages', frozen_stages, stages),
            ('norm_eval', norm_eval, (True, False)),
            ('with_cp', with_cp, (True, False)),
            ('channels_last', channels_last, (None, True, False)),
        ):
            setattr(self, name, check_choice(name, value, allowed))
        self.steps = strides, dilations
        self.norm_cfg, self.act_cfg = norm_cfg, act_cfg
        self.types = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.feature_info: tuple[dict, ...] = ()

    def strides_and_dilations(
        self, own: Sequence[int], fixed: bool = False
    ) -> list[tuple[int, int]]:
        """Of each stage: those asked for, or its own stride, undilated."""
        strides, dilations = self.steps
        count = len(own)
        if strides is not None:
            allowed = (2,) if fixed else (1, 2)
            own = check_each('strides', strides, count, allowed)
        if dilations is None:
            dilations = (1,) * count
        allowed = (1,) if fixed else range(1, 1000)
        dilations = check_each('dilations', dilations, count, allowed)
        return list(zip(own, dilations, strict=True))

    def add_stages(
        self,
        unit: Callable[..., nn.Module],
        in_channels: int,
        widths: Sequence[Sequence[int]],
        strides: Sequence[int],
        reduction: int = 4,
    ) -> tuple[int, int]:
        """Add stages of equal units, up to the last level asked for.

        A stage's first unit has the previous stage's dilation, so that a
        network with a stride exchanged for a dilation computes what the
        strided one does, at more places, and can use its weights.

        Args:
            unit: called with the channels before and after it, its stride,
                and the dilations of its convolutions up to the strided one
                and of those after it.
            in_channels, reduction: of the stem's output; the last stage's
                are returned.
            widths: output channels of each unit, per stage.
            strides: the published one of each stage.
        """
        steps = self.strides_and_dilations(strides)
        before = 1
        for name, units, (stride, dilation) in zip(
            self.stage_names, widths, steps, strict=False
        ):
            stage = []
            reduction *= stride
            for out_channels in units:
                dilations = (before, dilation)
                stage.append(
                    unit(in_channels, out_channels, stride, dilations)
                )
                in_channels, stride, before = out_channels, 1, dilation
            self.add_stage(name, stage, in_channels, reduction)
        return in_channels, reduction

    def add_stage(
        self,
        name: str,
        units: nn.Module | Sequence[nn.Module],
        out_channels: int,
        reduction: int,
    ) -> None:
        """Add the next stage: one module, or units that run in order."""
        if not isinstance(units, nn.Module):
            units = UnitSequence(units, self.with_cp)
        self.add_module(name, units)
        if self.level_names.index(name) in self.out_indices:
            self.feature_info += (
                dict(module=name, num_chs=out_channels, reduction=reduction),
            )

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of each returned level; a neck's ``in_channels``."""
        return tuple(level['num_chs'] for level in self.feature_info)

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per feature pixel of each returned level."""
        return tuple(level['reduction'] for level in self.feature_info)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of images (N, 3, H, W), as ``feature_info`` says."""
        channels_last = self.channels_last
        if channels_last is None:
            channels_last = x.device.type == 'cpu'
        # A compiler chooses layouts itself; a graph has none.
        in_graph = torch.jit.is_tracing() or torch.compiler.is_compiling()
        if channels_last and not in_graph:
            x = x.contiguous(memory_format=torch.channels_last)
        for name in self.stem_names:
            x = getattr(self, name)(x)
        outputs = []
        for index, name in enumerate(self.stage_names):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                outputs.append(self.feature(x))
        return tuple(outputs)

    def feature(self, state: Tensor) -> Tensor:
        """The map a level returns, from what its stage hands to the next."""
        return state

    def train(self, mode: bool = True) -> 'StagedBackbone':
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        self.freeze_stages()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def freeze_stages(self) -> None:
        """Freeze what ``frozen_stages`` says; a constructor's last line."""
        if self.frozen_stages >= 0:
            stages = self.stage_names[: self.frozen_stages]
            for name in (*self.stem_names, *stages):
                getattr(self, name).eval().requires_grad_(False)

    def init_weights(self) -> None:
        """Set weights as ``init_cfg`` says; those of files fit as a whole."""
        if not hasattr(self, '_params_init_info'):
            # mmengine's log is written by the outermost module, and before
            # weights are loaded below if this were it.
            outer = BaseModule()
            outer.backbone = self
            return outer.init_weights()
        configs = self.init_cfg
        if isinstance(configs, Mapping):
            configs = [configs]
        files = [dict(c) for c in configs if c['type'] in PRETRAINED]
        self.init_cfg = [c for c in configs if c['type'] not in PRETRAINED]
        super().init_weights()
        for config in files:
            del config['type']
            load_pretrained(self, **config)
            for parameter in self.parameters():
                self._params_init_info[parameter].update(
                    init_info=f'loaded from {config["checkpoint"]}',
                    tmp_mean_value=parameter.data.mean().cpu(),
                )
        self.init_cfg = configs

    @property
    def formats(self) -> tuple[WeightFormat, ...]:
        """What weights of such a network are found in."""
        return formats_of_family(self.family)

    @classmethod
    def family_in(cls, config: Mapping) -> str:
        """The family of a config, without building the network."""
        return cls.family

    @property
    def styles_of_these_shapes(self) -> tuple[str, ...]:
        """The styles in which all weights would have the same shapes."""
        return self.styles

    def neutral_weights(self) -> dict[str, Tensor]:
        """Weights of layers that the published network lacks.

        With them the network computes what the published one does.
        """
        return {}

    def rename_former_keys(self, state: dict, prefix: str) -> None:
        """Give the weights under a prefix their names of today, in place."""
        inner = within(state, prefix)
        for each in formats_of_family(self.family):
            if each.is_former and '' in each.prefixes(inner):
                for key in inner:
                    name = each.to_ours(key) or key
                    state[prefix + name] = state.pop(prefix + key)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        self.rename_former_keys(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


class UnitSequence(nn.Sequential):
    """The units of one stage; ``with_cp`` keeps only the input of each."""

    def __init__(self, units: Sequence[nn.Module], with_cp: bool):
        super().__init__(*units)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        if not (self.with_cp and self.training):
            return super().forward(x)
        for unit in self:
            options = {}
            if not torch.compiler.is_compiling():
                # A compiler recomputes values alone, not what is written.
                contexts = nullcontext(), norm_statistics_kept(unit)
                options['context_fn'] = lambda contexts=contexts: contexts
            x = checkpoint(unit, x, use_reentrant=False, **options)
        return x


@contextmanager
def norm_statistics_kept(module: nn.Module):
    """Let BN normalise by the batch but leave its running values alone.

    Only the first run of a checkpointed unit may count. The second has to
    save the same tensors, so the values are updated by nothing.
    """
    before = {
        m: (m.momentum, m.num_batches_tracked)
        for m in module.modules()
        if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    }
    for norm, (_, count) in before.items():
        norm.momentum, norm.num_batches_tracked = 0.0, count.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in before.items():
            norm.momentum, norm.num_batches_tracked = momentum, count


def repeated(channels: Sequence[int], units: Sequence[int]) -> list[list[int]]:
    """The widths of `add_stages`, of stages each of one width."""
    return [[c] * n for c, n in zip(channels, units, strict=True)]
