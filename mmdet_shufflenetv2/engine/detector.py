"""A trained detector from a config and a checkpoint, nothing else."""

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ..compat.input_format import declared_format
from .checkpoint_meta import adopt_input_format, checkpoint_classes
from .run_config import UsageError
from .run_data import set_classes
from .runner import load_fitting
from .tasks import DETECTION, kind_of


def load_detector(cfg: Config, checkpoint: str, device: str) -> nn.Module:
    """Build a detector with the classes its checkpoint knows.

    Args:
        cfg: Its config; the number of classes and the input format are
            changed in place to the checkpoint's.
        checkpoint: Path of the checkpoint.
        device: Where it goes.

    Returns:
        The model in evaluation mode, with ``cfg`` and ``dataset_meta`` as
        ``mmdet.apis.inference_detector`` wants them.

    Raises:
        CheckpointMismatch: If the checkpoint is of another architecture.
        UsageError: If the config is a classifier's.
    """
    task = kind_of(cfg)
    if task is not DETECTION:
        raise UsageError(
            f'{cfg.filename} is a {task.model}; tools/demo.py draws '
            'detections. tools/test.py CONFIG CKPT --eval '
            f'{task.eval_words[0]} tests it, and draws with --show-dir DIR'
        )
    meta = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    classes = checkpoint_classes(meta)
    if classes:
        set_classes(cfg, classes)
    adopt_input_format(cfg, declared_format(meta, checkpoint), checkpoint)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    # The checkpoint brings the weights; pretrained ones would be read twice.
    cfg.model.backbone.pop('init_cfg', None)
    model = MODELS.build(cfg.model)
    load_fitting(model, checkpoint)
    model.cfg = cfg
    model.dataset_meta = dict(classes=classes, palette='random')
    return model.to(device).eval()
