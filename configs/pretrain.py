"""ImageNet classification with any of the paper's networks, by its protocol.

    torchrun --nproc-per-node 8 tools/train.py configs/pretrain.py \
        --network shufflenet_v2_x0_5
    python tools/test.py configs/pretrain.py CKPT --eval error \
        --network shufflenet_v2_x0_5

``--network`` takes the names of ``mmdet_shufflenetv2/backbones/zoo.py``, the
networks of Tables 6, 7 and 8, with the size of their images; their published
errors are in docs/networks.md. Not trained here.
"""

_base_ = [
    '_base_/models/published_classifier.py',
    '_base_/datasets/imagenet.py',
    '_base_/schedules/imagenet_300k.py',
    '_base_/pretrain_runtime.py',
]

model = dict(network='shufflenet_v2_x1_0')
