"""Do the paper's guidelines G1 to G4 hold on this machine? (Tables 1 to 4)

    python tools/guidelines.py
    python tools/guidelines.py G1 G3 --device cuda --precision fp32 fp16

The paper's experiments at its FLOPs-matched widths, each row timed in turn
with its table's first: times as long as it, the paper's figure, and what the
memory access predicts, with one sentence for each guideline.
"""

import argparse

from . import benchmark


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command='guidelines')
    benchmark.add_options(parser, 'guidelines')


run = benchmark.run
