"""The base class of all backbones.

Each family is one file. Its constructor calls `StagedBackbone`'s, sets the
stem and adds stages up to the last level in ``out_indices``.
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
    # Only fan_in gives depthwise kernels their true fan, k * k.
    dict(type='Kaiming', layer='Conv2d', mode='fan_in'),
    dict(type='Constant', layer=['_BatchNorm', 'GroupNorm'], val=1, bias=0),
)
PRETRAINED = ('Pretrained', PretrainedInit)


class StagedBackbone(BaseModule):
    """A stem and named stages; returns the output of selected stages.

    Args:
        level_names: names of all stages. Stages after the last one in
            ``out_indices`` are not built.
        out_indices: levels to return, ascending; None means all.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and the
            first k stages: no gradients, BN in evaluation mode.
        norm_eval: keep every BN (SyncBN too) in evaluation mode.
        with_cp: save memory in training by recomputing activations.
        channels_last: whether to convert inputs to channels-last memory. None
            converts on the CPU only, where it measured faster.
        strides: of each stage's first unit; None means the published ones.
        dilations: of each stage; see `add_stages`.
        norm_cfg, act_cfg: mmcv configs of normalisation and activation; None
            for none.
        init_cfg: as in mmengine; None means `SCRATCH_INIT`. The type
            ``'Pretrained'`` takes the options of `load_pretrained`.

    Raises:
        ValueError: an argument is out of range.
    """

    # Modules before the first stage.
    stem_names = ('stem',)
    # Selects the rows of `compat.weight_formats` that fit this backbone.
    family = ''
    # Values of the argument ``style``; empty if there is no such argument.
    styles: tuple[str, ...] = ()
    # The input format of the pretrained weights, once they are loaded.
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
                'out_indices: expected an ascending sequence of levels, 0 to '
                f'{count - 1}, got {out_indices!r}'
            )
        # Only these are built.
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
        """(stride, dilation) per stage; ``fixed`` allows only (2, 1)."""
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
        """Add stages of one kind of unit, up to the last level returned.

        A stage's first unit keeps the previous stage's dilation, so a network
        that trades a stride for a dilation computes what the strided one does
        at more positions, and can use its weights.

        Args:
            unit: called with input and output channels, stride, and a pair
                of dilations: of the convolutions up to and including the
                strided one, and of those after it.
            in_channels, reduction: of the stem's output.
            widths: output channels of each unit, per stage.
            strides: the published stride of each stage.

        Returns the last stage's channels and reduction.
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
        """Add the next stage: a module, or units to run in sequence."""
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
        """Map images (N, 3, H, W) to the levels in ``feature_info``."""
        channels_last = self.channels_last
        if channels_last is None:
            channels_last = x.device.type == 'cpu'
        # Compilers choose layouts themselves, and traced graphs have none.
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
        """The feature map to return, given what a stage passes on."""
        return state

    def train(self, mode: bool = True) -> 'StagedBackbone':
        """Set the mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        self.freeze_stages()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def freeze_stages(self) -> None:
        """Apply ``frozen_stages``; every constructor calls this last."""
        if self.frozen_stages >= 0:
            stages = self.stage_names[: self.frozen_stages]
            for name in (*self.stem_names, *stages):
                getattr(self, name).eval().requires_grad_(False)

    def init_weights(self) -> None:
        """Initialise by ``init_cfg``, files through `load_pretrained`."""
        if not hasattr(self, '_params_init_info'):
            # The outermost module writes mmengine's log at the end of its
            # own init_weights, which for this one is before weights load.
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
        """The formats in which weights of this family are published."""
        return formats_of_family(self.family)

    @classmethod
    def family_in(cls, config: Mapping) -> str:
        """The family of a config's backbone, without building it."""
        return cls.family

    @property
    def styles_of_these_shapes(self) -> tuple[str, ...]:
        """The styles that share the shapes of all weights."""
        return self.styles

    def neutral_weights(self) -> dict[str, Tensor]:
        """Weights that neutralise layers the published network lacks.

        With them this network computes the same as the published one.
        """
        return {}

    def rename_former_keys(self, state: dict, prefix: str) -> None:
        """Rename weights saved under former names, in place."""
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
    """The units of a stage; ``with_cp`` checkpoints each in training."""

    def __init__(self, units: Sequence[nn.Module], with_cp: bool):
        super().__init__(*units)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        if not (self.with_cp and self.training):
            return super().forward(x)
        for unit in self:
            options = {}
            if not torch.compiler.is_compiling():
                # A compiler recomputes values but not side effects.
                contexts = nullcontext(), norm_statistics_kept(unit)
                options['context_fn'] = lambda contexts=contexts: contexts
            x = checkpoint(unit, x, use_reentrant=False, **options)
        return x


@contextmanager
def norm_statistics_kept(module: nn.Module):
    """Let BN normalise by batch statistics without changing running ones.

    The recomputation of a checkpointed unit must not update them again, but
    has to save the same tensors, so it updates them with a momentum of 0.
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
    """Expand per-stage channels to the ``widths`` of `add_stages`."""
    return [[c] * n for c, n in zip(channels, units, strict=True)]
