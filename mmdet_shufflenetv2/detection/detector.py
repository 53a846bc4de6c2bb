"""The two-stage detector around position-sensitive maps.

Shapes: the neck's RoI map has C * P * P channels, one for each of C values
and of P x P bins; pooling makes (K, C, P, P) of K RoIs.
"""

from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from torch.nn.modules.utils import _pair

from .neck import RoIMapNeck


@MODELS.register_module(name=['LightHeadRCNN', 'RFCN'])
class LightHeadRCNN(TwoStageDetector):
    """mmdet's ``TwoStageDetector``, its parts checked to fit each other.

    Args:
        args, kwargs: Those of ``TwoStageDetector``.

    Raises:
        ValueError: Neck, pooling and heads do not fit.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if isinstance(self.neck, RoIMapNeck):
            self._check_rpn()
            self._check_box_head()

    def _check_rpn(self) -> None:
        arrives = self.neck.rpn_channels
        if self.rpn_head.in_channels != arrives:
            raise ValueError(
                f'rpn_head.in_channels: expected {arrives}, the channels of '
                f'what the neck passes on, got {self.rpn_head.in_channels}'
            )

    def _check_box_head(self) -> None:
        head = self.roi_head.bbox_head
        (layer,) = self.roi_head.bbox_roi_extractor.roi_layers
        bins = _pair(layer.output_size)
        if head.reads_every_bin and head.roi_feat_size != bins:
            raise ValueError(
                f'bbox_head.roi_feat_size: expected {bins}, that is '
                f'roi_layer.output_size, got {head.roi_feat_size}'
            )
        expected = head.values_per_bin * bins[0] * bins[1]
        if self.neck.out_channels != expected:
            raise ValueError(
                f'neck: expected {expected} channels, {head.values_per_bin} '
                f'values of {bins[0]}x{bins[1]} bins each, which bbox_head '
                f'reads, got {self.neck.out_channels}; {head.fitting_options}'
            )
