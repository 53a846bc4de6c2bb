"""Earlier name of ``python -m mmdet_shufflenetv2 synthetic``."""

import sys

from ..cli import main

if __name__ == '__main__':
    main('synthetic', [*sys.argv[1:]])
