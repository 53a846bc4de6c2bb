"""Test the paper's guidelines G1 to G4 on this machine (Tables 1 to 4).

    python tools/guidelines.py
    python tools/guidelines.py G1 G3 --device cuda --precision fp32 fp16

Repeats the paper's experiments at its FLOPs-matched widths. Each row is timed
in turn with the first row of its table; the ratio is shown next to the paper's
and to the prediction from memory access. Ends with one line per guideline.
"""

import argparse

from . import benchmark


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command='guidelines')
    benchmark.add_options(parser, 'guidelines')


run = benchmark.run
