"""The two-stage detector with position-sensitive maps.

Shapes: the neck's RoI map has C * P * P channels, one for each of C values in
each of P x P bins. Pooling K RoIs gives (K, C, P, P).
"""

from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from torch.nn.modules.utils import _pair

from .neck import RoIMapNeck
from .roi_head import LightHeadBBoxHead, PSRoIExtractor


@MODELS.register_module(name=['LightHeadRCNN', 'RFCN'])
class LightHeadRCNN(TwoStageDetector):
    """mmdet's ``TwoStageDetector``, with a check that its parts fit.

    Raises:
        ValueError: The shapes of neck, pooling and heads do not agree.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if isinstance(self.neck, RoIMapNeck):
            self._check_rpn()
            self._check_box_head()

    def _check_rpn(self) -> None:
        expected = self.neck.rpn_channels
        if self.rpn_head.in_channels != expected:
            raise ValueError(
                f'rpn_head.in_channels: expected {expected}, the channels of '
                f"the neck's RPN features, got {self.rpn_head.in_channels}"
            )

    def _check_box_head(self) -> None:
        head = self.roi_head.bbox_head
        extractor = self.roi_head.bbox_roi_extractor
        if not isinstance(extractor, PSRoIExtractor):
            return
        bins = _pair(extractor.roi_layers[0].output_size)
        # Heads of mmdet's own read every bin, as Light-Head's does.
        kind = head if hasattr(head, 'values_per_bin') else LightHeadBBoxHead
        if kind.reads_every_bin and head.roi_feat_size != bins:
            raise ValueError(
                f'bbox_head.roi_feat_size: expected {bins}, as in '
                f'roi_layer.output_size, got {head.roi_feat_size}'
            )
        values = getattr(head, 'values_per_bin', head.in_channels)
        expected = values * bins[0] * bins[1]
        if self.neck.out_channels != expected:
            raise ValueError(
                f'neck: expected {expected} channels, because bbox_head reads '
                f'{values} values in each of {bins[0]}x{bins[1]} bins, got '
                f'{self.neck.out_channels}; {kind.fitting_options}'
            )
