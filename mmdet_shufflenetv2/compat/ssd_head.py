"""mmdet 3.3's SSD head trains, but cannot predict.

Prediction asks every dense head for ``loss_cls.custom_cls_channels``; the
SSD head computes its loss itself and has no ``loss_cls``.
"""


def ensure_ssd_predicts() -> None:
    """Give the SSD head the attribute it lacks, unless it has it by now."""
    from mmdet.models.dense_heads import SSDHead

    if not hasattr(SSDHead, 'loss_cls'):
        SSDHead.loss_cls = None
