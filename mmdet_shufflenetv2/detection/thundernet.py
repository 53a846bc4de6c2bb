"""ThunderNet (arXiv 1903.11752), the successor of Light-Head R-CNN.

By the same group; the authors published no code. Written from sections 3.2 and
3.3 of the paper. It is Light-Head R-CNN with another neck: one map of stride
16 combines context at three scales (CEM), the RPN has a 5x5 depthwise
convolution, and its features emphasise the map's foreground (SAM).

Shapes: N images, C4 and C5 channels of the backbone's maps at strides 16 and
32, h x w the size at stride 16, P x P bins, 5 * P * P = 245 channels.
"""

from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from ..arguments import check_positive
from .neck import RoIMapNeck
from .rpn_head import LightHeadRPNHead


@MODELS.register_module()
class ThunderNetNeck(RoIMapNeck):
    """Context enhancement, the RPN's convolution and spatial attention.

    The RPN's convolution is here because attention needs its features;
    :class:`ThunderNetRPNHead` only has the prediction layers.

    Args:
        in_channels: C4 and C5.
        out_channels: Channels of the RoI map.
        rpn_channels: Channels of the RPN's features, 256 in the paper.
        kernel_size: Of the RPN's depthwise convolution.
        norm_cfg: The norm of the attention, the only one in the paper.
        init_cfg: The default is a Gaussian with std 0.01.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 245,
        rpn_channels: int = 256,
        kernel_size: int = 5,
        norm_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(
            in_channels,
            rpn_level=0,
            init_cfg=init_cfg or dict(type='Normal', layer='Conv2d', std=0.01),
        )
        if len(self.in_channels) != 2:
            raise ValueError(
                'in_channels: expected the channels of two maps, at strides '
                f'16 and 32, got {in_channels!r}'
            )
        self.out_channels = check_positive('out_channels', out_channels)
        self.rpn_channels = check_positive('rpn_channels', rpn_channels)
        c4, c5 = self.in_channels
        self.context4 = nn.Conv2d(c4, out_channels, 1)
        self.context5 = nn.Conv2d(c5, out_channels, 1)
        self.context_global = nn.Conv2d(c5, out_channels, 1)
        self.rpn_depthwise = nn.Conv2d(
            out_channels,
            out_channels,
            kernel_size,
            padding=kernel_size // 2,
            groups=out_channels,
        )
        self.rpn_pointwise = nn.Conv2d(out_channels, rpn_channels, 1)
        _, norm = build_norm_layer(norm_cfg or dict(type='BN'), out_channels)
        self.attention = nn.Sequential(
            nn.Conv2d(rpn_channels, out_channels, 1, bias=False), norm
        )

    def roi_map(self, inputs: Sequence[Tensor]) -> Tensor:
        """Context at three scales, (N, ``out_channels``, h, w)."""
        c4, c5 = inputs
        large = F.interpolate(self.context5(c5), c4.shape[2:], mode='nearest')
        everywhere = self.context_global(c5.mean((2, 3), keepdim=True))
        return self.context4(c4) + large + everywhere

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The RoI map and the RPN's features, both (N, ., h, w)."""
        self.check_levels(inputs)
        context = self.roi_map(inputs)
        rpn = self.rpn_pointwise(self.rpn_depthwise(context)).relu()
        return context * self.attention(rpn).sigmoid(), rpn


@MODELS.register_module()
class ThunderNetRPNHead(LightHeadRPNHead):
    """Predict scores and boxes from the RPN's features.

    The neck has the RPN's convolution; ``in_channels`` must be the neck's
    ``rpn_channels``.
    """

    def _init_layers(self) -> None:
        super()._init_layers()
        self.rpn_conv = nn.Identity()
        anchors = self.num_base_priors
        self.rpn_cls = nn.Conv2d(
            self.in_channels, anchors * self.cls_out_channels, 1
        )
        self.rpn_reg = nn.Conv2d(self.in_channels, anchors * 4, 1)
