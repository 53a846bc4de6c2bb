"""ImageNet classification by the paper's protocol; a leaf names a network.

    torchrun --nproc-per-node 8 tools/train.py \
        configs/pretrain/shufflenetv2_x1_0.py --launcher pytorch
    python tools/test.py configs/pretrain/shufflenetv2_x1_0.py CKPT \
        --eval error
"""

_base_ = [
    'models/published_classifier.py',
    'datasets/imagenet.py',
    'schedules/imagenet_300k.py',
    'pretrain_runtime.py',
]
