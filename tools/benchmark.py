"""Measure speed on this machine: ``--help`` has the commands."""

from mmdet_shufflenetv2.cli import main

if __name__ == '__main__':
    main('benchmark')
