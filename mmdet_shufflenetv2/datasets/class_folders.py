"""Earlier name of ``python -m mmdet_shufflenetv2 class_folders``."""

import sys

from ..cli import main

if __name__ == '__main__':
    main('class_folders', [*sys.argv[1:]])
