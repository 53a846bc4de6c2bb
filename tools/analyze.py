"""What a network costs on this machine, layer by layer, and what would help.

    python tools/analyze.py shufflenet_v2_x1_0
    python tools/analyze.py ShuffleNetV2 --backbone-options widen_factor=0.5
    python tools/analyze.py configs/lighthead_shufflenetv2.py --size 320x320
    python tools/analyze.py mmdet::retinanet/retinanet_r50_fpn_1x_coco.py

Runs the network, measures every operation in place and every layer that
breaks one of the guidelines G1 to G4 beside one that keeps it, and holds all
against what this machine can do. Prints what would help most, first; tables,
a picture and a time line for ui.perfetto.dev go to the output folder.
FLOPs are multiply-adds.
"""

from mmdet_shufflenetv2.analysis.command import parser, run
from mmdet_shufflenetv2.engine.command_line import reporting_errors

if __name__ == '__main__':
    args = parser(__doc__).parse_args()
    reporting_errors(lambda: run(args))
