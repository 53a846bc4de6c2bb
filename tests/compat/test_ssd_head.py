from mmdet.models.dense_heads import SSDHead

from mmdet_shufflenetv2.compat.ssd_head import ensure_ssd_predicts


def test_an_ssd_head_answers_what_prediction_asks():
    assert getattr(SSDHead.loss_cls, 'custom_cls_channels', False) is False


def test_an_ssd_head_that_has_a_loss_keeps_it(monkeypatch):
    loss = object()
    monkeypatch.setattr(SSDHead, 'loss_cls', loss)
    ensure_ssd_predicts()
    assert SSDHead.loss_cls is loss


def test_the_attribute_is_added_where_it_lacks(monkeypatch):
    monkeypatch.delattr(SSDHead, 'loss_cls')
    ensure_ssd_predicts()
    assert SSDHead.loss_cls is None
