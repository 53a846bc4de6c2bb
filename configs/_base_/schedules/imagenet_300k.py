"""The paper's protocol: 300,000 iterations of 1024 images.

SGD, rate 0.5 to 0 by a straight line, weight decay on the weights of
convolutions and of the linear layer alone. ``tools/train.py`` scales the rate
to the batch that you run.
"""

train_cfg = dict(
    type='ResumableIterLoop', max_iters=300_000, val_interval=10_000
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# At iteration k the rate is 0.5 * (1 - k / (max_iters - 1)): without an end
# of its own, the line ends with the run.
param_scheduler = dict(
    type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.5, momentum=0.9, weight_decay=4e-5),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0),
)
auto_scale_lr = dict(enable=False, base_batch_size=1024)
