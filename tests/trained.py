"""Detectors whose outputs differ from box to box, as a trained one's do."""

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope


def build(path, seed=0, proposals=40, classes=5, **options):
    """A config's detector with random weights that give spread scores.

    Returns:
        The detector in evaluation mode, and its config.
    """
    from mmdet_shufflenetv2.engine.run_data import set_classes

    cfg = Config.fromfile(path)
    cfg.model.backbone.pop('init_cfg', None)
    set_classes(cfg, tuple(f'class {i}' for i in range(classes)))
    cfg.merge_from_dict({f'model.{k}': v for k, v in options.items()})
    cfg.model.test_cfg.rpn.max_per_img = proposals
    init_default_scope('mmdet')
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model).eval()
    for name, value in model.named_buffers():
        if name.endswith('running_mean'):
            value.normal_(0, 0.1)
        if name.endswith('running_var'):
            value.uniform_(0.5, 1.5)
    _spread(model)
    return model, cfg


@torch.no_grad()
def _spread(model) -> None:
    """Scale the last layers to logits of deviation 2, deltas of 0.5."""

    def fit(layer, output, deviation):
        layer.weight.mul_(deviation / output.std().clamp(min=1e-9))
        layer.bias.zero_()

    maps = model.extract_feat(torch.randn(2, 3, 96, 128))
    rpn, head = model.rpn_head, model.roi_head.bbox_head
    (scores,), (deltas,) = rpn(maps)
    fit(rpn.rpn_cls, scores - rpn.rpn_cls.bias.mean(), 2)
    fit(rpn.rpn_reg, deltas, 0.3)
    corner = torch.rand(40, 2) * 50
    rois = torch.cat([torch.zeros(40, 1), corner, corner + 40], 1)
    pooled = model.roi_head.bbox_roi_extractor(maps[:1], rois)
    scores, deltas = head(pooled)
    if hasattr(head, 'fc_cls'):
        fit(head.fc_cls, scores, 2)
        fit(head.fc_reg, deltas, 0.5)
    else:
        fit(model.neck.score_conv, scores, 2)
        fit(model.neck.box_conv, deltas, 0.5)


def save(model, cfg, path) -> None:
    """What training would leave: weights, config and classes."""
    head = model.roi_head.bbox_head
    classes = tuple(f'class {i}' for i in range(head.num_classes))
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=classes))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
