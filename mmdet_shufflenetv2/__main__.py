"""``python -m mmdet_shufflenetv2 COMMAND``: see `mmdet_shufflenetv2.cli`."""

from .cli import console

if __name__ == '__main__':
    console()
