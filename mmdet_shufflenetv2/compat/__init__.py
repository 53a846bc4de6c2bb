"""Patches that make MMDetection's official wheels work on today's PyTorch.

``import mmdet_shufflenetv2`` calls `apply_patches`, which fixes only what
keeps mmdet from being imported, from loading and saving checkpoints, or from
running at all. The commands of this package also call `apply_tool_patches`,
which changes behaviour.
"""


def apply_patches() -> None:
    """Make mmdet work on this machine; safe to call repeatedly.

    Call it before anything imports ``mmcv.ops``, as all of mmdet does.

    Raises:
        ImportError: MMDetection is not installed, or torchvision has to
            replace mmcv's ops but is missing or built for another torch. The
            message says what to install.
    """
    from . import needs_mmdet  # noqa: F401, I001
    from . import checkpoints, host_faults
    from .stand_ins import offer_stand_ins

    offer_stand_ins()
    checkpoints.guard_loading()
    host_faults.fix_crashes()


def apply_tool_patches() -> None:
    """Change mmdet's behaviour for a command; safe to call repeatedly.

    Files are written completely or not at all, checkpoints never run code
    whatever the environment says, and thin images keep at least a pixel.
    """
    from . import atomic_files, checkpoints, host_faults

    atomic_files.write_atomically()
    checkpoints.never_run_code()
    host_faults.keep_thin_images()
