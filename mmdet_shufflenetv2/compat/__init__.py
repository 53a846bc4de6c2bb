"""What MMDetection's official wheels lack on today's PyTorch."""

from importlib.util import find_spec

HOSTS = ('torch', 'mmengine', 'mmcv', 'mmdet')


def close_gaps() -> None:
    """Close every gap found on this machine; safe to call again.

    Call it before anything imports ``mmcv.ops``, as all of mmdet does.

    Raises:
        ImportError: MMDetection is not installed; or torchvision is needed
            in the place of mmcv's ops, and is absent or was built for
            another torch. The message says what to install.
    """
    missing = [name for name in HOSTS if find_spec(name) is None]
    if missing:
        raise ImportError(
            f'{", ".join(missing)} not installed: this package extends '
            'MMDetection. pip install torch torchvision mmdet==3.3.0 '
            'mmcv-lite==2.1.0 mmengine==0.10.7 "setuptools<81"'
        )
    # Below the check, because these import the packages it looks for.
    from . import atomic_files, checkpoints, mmcv_ops, pkg_resources
    from .ssd_head import ensure_ssd_predicts
    from .stand_in_modules import offer_stand_ins
    from .thin_images import keep_thin_images

    finder = offer_stand_ins(
        {
            pkg_resources.NAME: pkg_resources.fill,
            mmcv_ops.NAME: mmcv_ops.fill,
        }
    )
    pkg_resources.hush()
    mmcv_ops.ensure_mmcv_ops(finder)
    checkpoints.allow_mmengine_types()
    checkpoints.guard_loading()
    atomic_files.write_atomically()
    ensure_ssd_predicts()
    keep_thin_images()
