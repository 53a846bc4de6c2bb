"""Do the paper's guidelines G1 to G4 hold on this machine? (Tables 1 to 4)

    python tools/guidelines.py
    python tools/guidelines.py G1 G3 --device cuda --precision fp32 fp16

The paper's experiments at its FLOPs-matched widths, each row timed in turn
with its table's first: times as long as it, the paper's figure, and what the
memory access predicts, with one sentence for each guideline.
"""

from mmdet_shufflenetv2.measure.command_line import guidelines

if __name__ == '__main__':
    guidelines(__doc__)
