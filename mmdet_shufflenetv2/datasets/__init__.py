"""Commands by their earlier names; see ``python -m mmdet_shufflenetv2``."""
