"""Earlier name of ``python -m mmdet_shufflenetv2 synthetic --crops``."""

import sys

from ..cli import main

if __name__ == '__main__':
    main('synthetic', ['--crops', *sys.argv[1:]])
