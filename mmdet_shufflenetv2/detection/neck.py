"""What the necks of region-based detectors here have in common."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from ..arguments import whole_number, whole_numbers


class RoIMapNeck(BaseModule):
    """Turn backbone maps into the one RoIs read and the one the RPN reads.

    The output is ``(roi_map, rpn_feature)``: mmdet hands one tuple to both
    heads, its RoI heads read the first map, `LightHeadRPNHead` the last. A
    subclass computes the first and says how many ``out_channels`` it has.

    Args:
        in_channels: Channels of each backbone level that arrives.
        levels: Names and values of the two arguments that choose a level:
            that of the RoI map's input, then that of the RPN's map.
        init_cfg: As in every mmengine module.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        levels: dict[str, int],
        init_cfg: dict | list | None,
    ):
        super().__init__(init_cfg)
        channels = whole_numbers(in_channels)
        if not channels or any(c is None or c < 1 for c in channels):
            raise ValueError(
                'in_channels must list the channels of each backbone level, '
                f'got {in_channels!r}'
            )
        count = len(channels)
        for name, level in levels.items():
            if whole_number(level) not in range(-count, count):
                raise ValueError(
                    f'{name} must be one of the {count} levels of '
                    f'in_channels, {-count}..{count - 1}, got {level!r}'
                )
        self.in_channels = channels
        self.map_level, self.rpn_level = levels.values()
        self.rpn_channels = channels[self.rpn_level]

    def roi_map(self, x: Tensor) -> Tensor:
        """Compute the map that RoIs read from a level (N, C_in, h, w)."""
        raise NotImplementedError

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The RoI map (N, C * P * P, h, w) and the RPN's, of all levels."""
        if len(inputs) != len(self.in_channels):
            raise ValueError(
                f'the neck expects {len(self.in_channels)} backbone levels '
                f'(in_channels={self.in_channels}), got {len(inputs)}'
            )
        return self.roi_map(inputs[self.map_level]), inputs[self.rpn_level]
