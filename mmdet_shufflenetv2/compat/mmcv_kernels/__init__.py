"""What ``mmcv._ext`` computes, through torch and torchvision.

Every function has the signature with which ``mmcv/ops/*.py`` calls the
compiled one: tensors first, most results written into buffers that the caller
made, settings as keywords.
"""
