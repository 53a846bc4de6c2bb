"""What MMDetection's official wheels lack on today's PyTorch."""

from . import atomic_files, checkpoints, mmcv_ops, pkg_resources
from .stand_in_modules import offer_stand_ins


def close_gaps() -> None:
    """Close every gap found on this machine; safe to call again."""
    finder = offer_stand_ins(
        {
            pkg_resources.NAME: pkg_resources.fill,
            mmcv_ops.NAME: mmcv_ops.fill,
        }
    )
    mmcv_ops.ensure_mmcv_ops(finder)
    checkpoints.allow_mmengine_types()
    checkpoints.guard_loading()
    atomic_files.write_atomically()
