"""Detectors whose outputs differ from box to box, as a trained one's do."""

import torch

from mmdet_shufflenetv2.measure.deploy import seeded_detector


def build(path, seed=0, proposals=40, classes=5, **options):
    """A config's detector in evaluation mode, and its config."""
    names = tuple(f'class {i}' for i in range(classes))
    options['test_cfg.rpn.max_per_img'] = proposals
    model = seeded_detector(path, seed, names, **options)
    return model, model.cfg


def save(model, cfg, path) -> None:
    """What training would leave: weights, config and classes."""
    meta = dict(cfg=cfg.pretty_text, dataset_meta=model.dataset_meta)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
