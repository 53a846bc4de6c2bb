"""Closes the gaps before a test module imports mmcv's ops or mmdet."""

import mmdet_shufflenetv2  # noqa: F401
