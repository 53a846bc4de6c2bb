"""``python -m mmdet_shufflenetv2 COMMAND``, installed ``mmdet-shufflenetv2``.

See `mmdet_shufflenetv2.cli`.
"""

from .cli import console as main

if __name__ == '__main__':
    main()
