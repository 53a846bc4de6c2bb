"""The base class of the necks in this package."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from ..arguments import whole_number, whole_numbers


class RoIMapNeck(BaseModule):
    """Compute the map that RoIs are pooled from, and the RPN's features.

    The output is ``(roi_map, rpn_features)``. mmdet passes the tuple to both
    heads: its RoI heads read the first map, `LightHeadRPNHead` the last.
    Subclasses implement `roi_map` and set ``out_channels``, its channels.

    Args:
        in_channels: Channels of each input level.
        rpn_level: The input level that is passed on to the RPN.
        init_cfg: As in mmengine.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        rpn_level: int,
        init_cfg: dict | list | None,
    ):
        super().__init__(init_cfg)
        channels = whole_numbers(in_channels)
        if not channels or any(c is None or c < 1 for c in channels):
            raise ValueError(
                'in_channels: expected the channels of each backbone level, '
                f'got {in_channels!r}'
            )
        count = len(channels)
        if whole_number(rpn_level) not in range(-count, count):
            raise ValueError(
                f'rpn_level: expected one of the {count} levels of '
                f'in_channels, {-count}..{count - 1}, got {rpn_level!r}'
            )
        self.in_channels = channels
        self.rpn_level = rpn_level
        self.rpn_channels = channels[rpn_level]

    def roi_map(self, x: Tensor) -> Tensor:
        """Compute the RoI map from the last level (N, C_in, h, w)."""
        raise NotImplementedError

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map the levels to (N, C * P * P, h, w) and the RPN's features."""
        self.check_levels(inputs)
        return self.roi_map(inputs[-1]), inputs[self.rpn_level]

    def check_levels(self, inputs: Sequence[Tensor]) -> None:
        """Raise a ValueError unless there is a map for each level."""
        if len(inputs) != len(self.in_channels):
            raise ValueError(
                f'the neck expects {len(self.in_channels)} backbone levels '
                f'(in_channels={self.in_channels}), got {len(inputs)}'
            )
