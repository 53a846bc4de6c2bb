"""The thin feature map of Light-Head R-CNN (arXiv 1711.07264, section 3.2).

Shapes: N images, C_in channels of the backbone's map, C_out = C * P * P
channels of the thin map (10 * 7 * 7 = 490), h x w its height and width.
"""

from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..arguments import check_positive
from .neck import RoIMapNeck


class LargeSeparableConv(nn.Module):
    """A k x k convolution as the sum of (k x 1, 1 x k) and (1 x k, k x 1).

    Args:
        in_channels, out_channels: C_in and C_out.
        mid_channels: Channels between the two convolutions of a branch; in
            the paper 64 for small backbones, 256 for ResNet-101.
        kernel_size: Length k of the one-dimensional kernels; odd.
        act_each: ``False`` applies one ReLU to the sum of the branches, as in
            the authors' TensorFlow code; ``True`` applies one after every
            convolution, as in the Caffe and MXNet ports.
        norm_cfg: mmdet's config of a norm after each branch's second
            convolution. Not in the paper; stabilises training from scratch.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: int = 64,
        kernel_size: int = 15,
        act_each: bool = False,
        norm_cfg: dict | None = None,
    ):
        super().__init__()
        in_channels = check_positive('in_channels', in_channels)
        out_channels = check_positive('out_channels', out_channels)
        mid_channels = check_positive('mid_channels', mid_channels)
        if check_positive('kernel_size', kernel_size) % 2 == 0:
            raise ValueError(
                'kernel_size: expected an odd number, so that the map keeps '
                f'its size, got {kernel_size}'
            )
        self.act_each = act_each
        self.relu = nn.ReLU(inplace=True)

        def branch(first: tuple[int, int]) -> nn.Sequential:
            second = first[::-1]
            layers = nn.Sequential()
            layers.conv1 = nn.Conv2d(
                in_channels,
                mid_channels,
                first,
                padding=(first[0] // 2, first[1] // 2),
            )
            if act_each:
                layers.relu = nn.ReLU(inplace=True)
            layers.conv2 = nn.Conv2d(
                mid_channels,
                out_channels,
                second,
                padding=(second[0] // 2, second[1] // 2),
                bias=norm_cfg is None,
            )
            if norm_cfg is not None:
                _, layers.norm = build_norm_layer(norm_cfg, out_channels)
            return layers

        self.vertical_first = branch((kernel_size, 1))
        self.horizontal_first = branch((1, kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, h, w) to the non-negative (N, C_out, h, w)."""
        vertical = self.vertical_first(x)
        horizontal = self.horizontal_first(x)
        if self.act_each:
            vertical = self.relu(vertical)
            horizontal = self.relu(horizontal)
        return self.relu(vertical + horizontal)


@MODELS.register_module()
class LightHeadNeck(RoIMapNeck):
    """Compute the thin map, and pass the RPN's level on unchanged.

    Args:
        in_channels: Channels of each input level.
        out_channels: Channels of the thin map, C * P * P.
        mid_channels, kernel_size, act_each, norm_cfg: See
            :class:`LargeSeparableConv`.
        norm: ``True`` is short for ``norm_cfg=dict(type='BN')``.
        rpn_level: The input level of the RPN; the thin map has the last.
        init_cfg: The default preserves the scale of activations.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 490,
        mid_channels: int = 64,
        kernel_size: int = 15,
        act_each: bool = False,
        norm: bool = False,
        rpn_level: int = 0,
        norm_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ):
        if norm and norm_cfg is None:
            norm_cfg = dict(type='BN')
        if init_cfg is None:
            init_cfg = dict(
                type='Kaiming',
                layer='Conv2d',
                mode='fan_in',
                nonlinearity='linear',
            )
        super().__init__(in_channels, rpn_level, init_cfg)
        self.thin_conv = LargeSeparableConv(
            self.in_channels[-1],
            out_channels,
            mid_channels,
            kernel_size,
            act_each,
            norm_cfg,
        )
        self.out_channels = out_channels

    def roi_map(self, x: Tensor) -> Tensor:
        """The thin map (N, ``out_channels``, h, w)."""
        return self.thin_conv(x)
