"""What MMDetection's official wheels lack on today's PyTorch.

`apply_patches` is what ``import mmdet_shufflenetv2`` does: only what keeps
mmdet from being imported, from loading and saving checkpoints, or from
running at all. `apply_tool_patches` changes how things behave, and is for
the commands of this package.
"""


def apply_patches() -> None:
    """Make mmdet work on this machine; safe to call again.

    Call it before anything imports ``mmcv.ops``, as all of mmdet does.

    Raises:
        ImportError: MMDetection is not installed; or torchvision is needed
            in the place of mmcv's ops, and is absent or was built for
            another torch. The message says what to install.
    """
    from . import needs_mmdet  # noqa: F401, I001
    from . import checkpoints, host_faults
    from .stand_ins import offer_stand_ins

    offer_stand_ins()
    checkpoints.guard_loading()
    host_faults.fix_crashes()


def apply_tool_patches() -> None:
    """Change how the hosts behave, for a command; safe to call again.

    Files are written whole or not at all, checkpoints never run code
    whatever the environment says, thin images keep a pixel, and
    deprecations that only mmengine can act on are not shown.
    """
    from . import atomic_files, checkpoints, host_faults

    atomic_files.write_atomically()
    checkpoints.never_run_code()
    host_faults.keep_thin_images()
    host_faults.hide_pkg_resources_warning()
