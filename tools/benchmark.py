"""Measure speed on this machine, beside the paper's figures.

    python tools/benchmark.py backbones --size 224x224
    python tools/benchmark.py detectors --device cuda
    python tools/benchmark.py all --device cuda --budget-minutes 8

Competitors run in turn in one process; a ratio is of medians, with the
spread of the rounds' own ratios. Each measurement becomes a row of a CSV file
in results/ at once, and a command that is given again goes on where it
stopped. On a busy machine ``--threads 1 --clock cpu`` still tells the work
that is done.
"""

from mmdet_shufflenetv2.measure.command_line import benchmark

if __name__ == '__main__':
    benchmark(__doc__)
