"""What the tools do with a detector's config, as `classifiers` with others."""

from argparse import Namespace

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ..data.table import BoxTable
from . import run_data
from .checkpoint_meta import adopt, checkpoint_classes
from .evaluation import coco_metrics as metrics
from .run_data import adopt_classes
from .runner import load_fitting

__all__ = ['adopt_classes', 'check_data', 'load_detector', 'metrics']

MODEL = 'detector'
EVAL_WORDS = ('bbox', 'proposal')
NOT_FOR_IT = ('network',)
DUMP = 'DumpDetResults'


def drawing(folder: str, score_thr: float) -> dict:
    """The hook that draws what was found, for ``--show-dir``."""
    return dict(
        type='PicturesHook',
        out_dir=folder,
        method='add_datasample',
        name='',
        pred_score_thr=score_thr,
    )


def use_data_root(cfg: Config, args: Namespace) -> None:
    """Point a config to the folder that the arguments name."""
    found = run_data.find_data(**run_data.data_names(args))
    run_data.use_data(cfg, found)


def check_data(
    cfg: Config, splits: tuple[str, ...], args: Namespace
) -> dict[str, list[BoxTable]]:
    """Check what a run reads; see :func:`.run_data.check_data`."""
    strict = args.strict or args.on_bad_boxes == 'error'
    return run_data.check_data(cfg, splits, strict, args.exif)


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
        CheckpointMismatch: The checkpoint is of another architecture.
    """
    meta = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    classes = checkpoint_classes(meta)
    if classes:
        run_data.set_classes(cfg, classes)
    adopt(cfg, meta, checkpoint)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    # The checkpoint brings the weights; pretrained ones would be read twice.
    cfg.model.backbone.pop('init_cfg', None)
    model = MODELS.build(cfg.model)
    load_fitting(model, checkpoint)
    model.cfg = cfg
    model.dataset_meta = dict(classes=classes, palette='random')
    return model.to(device).eval()
