_base_ = 'pretrain_adam_small.py'
train_pipeline = _base_.train_pipeline
train_pipeline[1].crop_ratio_range = (0.7, 1.0)
del train_pipeline[2]
train_dataloader=dict(dataset=dict(pipeline=train_pipeline))
