"""Former place of the types in `mmdet_shufflenetv2.cli.options`."""

from ..cli.options import (  # noqa: F401
    image_size,
    positive_int,
    positive_number,
    whole_number,
)
