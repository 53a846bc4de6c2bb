"""MobileNet V2 0.4x on ImageNet.

Paper (Table 8, 40 MFLOPs): 43.4 % top-1 error. Not trained here.
"""

_base_ = '../_base_/imagenet_pretrain.py'

model = dict(network='mobilenet_v2_x0_4')

# The figure is that of images of 160x160.
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[1].scale = 160
test_pipeline[1].scale = 183
test_pipeline[2].crop_size = 160
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
