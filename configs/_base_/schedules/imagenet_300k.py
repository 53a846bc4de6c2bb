"""The paper's protocol: 300,000 iterations of 1024 images.

SGD with a learning rate that falls linearly from 0.5 to 0, and weight decay
only on the weights of convolutions and the linear layer. ``tools/train.py``
scales the learning rate to the actual batch size.
"""

train_cfg = dict(
    type='ResumableIterLoop', max_iters=300_000, val_interval=10_000
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# At iteration k the learning rate is 0.5 * (1 - k / (max_iters - 1)). Without
# `end`, the decay ends with the run.
param_scheduler = dict(
    type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.5, momentum=0.9, weight_decay=4e-5),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0),
)
auto_scale_lr = dict(enable=False, base_batch_size=1024)
