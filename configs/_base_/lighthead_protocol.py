"""The training and test protocol of Light-Head R-CNN's authors on COCO.

The ShuffleNet V2 paper follows "the same training and test protocols"
(section 4, arXiv 1807.11164). They come from the authors' code,
https://github.com/zengarden/light_head_rcnn. Comments name the file: config.py
and network_desp.py of the experiment
``light_head_rcnn.ori_res101.coco.ps_roialign``, and tools/train.py. Configs
can override each point.

Differences: mmdet's smooth L1 loss, and its RPN with one score per anchor,
which has the same optimum; epochs are those of train2017, with 118287 images
instead of 80000.
"""

_base_ = [
    './models/lighthead_shufflenetv2.py',
    './datasets/coco_detection.py',
    './default_runtime.py',
]

model = dict(
    backbone=dict(
        # network_desp.py: conv1 and block1 have trainable=False.
        frozen_stages=1,
        # config.py: bn_training = False; network_desp.py: is_training False.
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
    ),
    rpn_head=dict(
        # config.py: simga_rpn = 3; beta is 1 / sigma^2.
        loss_bbox=dict(
            _delete_=True, type='SmoothL1Loss', beta=1 / 9, loss_weight=1.0
        )
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            # psalign_pooling_op: the largest of 2x2 samples per bin, without
            # a half-pixel offset.
            roi_layer=dict(mode='max', aligned=False, sampling_ratio=2)
        ),
        bbox_head=dict(
            # config.py: nr_ohem_sampling = 256 * train_batch_per_gpu, ranked
            # by the sum of both losses (loss_opr.sum_ohem_loss).
            ohem_num=256,
            # network_desp.py: loss_box *= 2.
            loss_bbox=dict(
                _delete_=True, type='SmoothL1Loss', beta=1.0, loss_weight=2.0
            ),
        ),
    ),
    train_cfg=dict(
        # config.py: RPN_PRE_NMS_TOP_N, RPN_POST_NMS_TOP_N, RPN_NMS_THRESH.
        rpn_proposal=dict(
            nms_pre=12000,
            max_per_img=2000,
            nms=dict(type='nms', iou_threshold=0.7),
        ),
        # config.py: BATCH_SIZE = -1 (all RoIs), USE_GT = True.
        rcnn=dict(
            sampler=dict(
                type='RandomSampler',
                num=10_000,
                pos_fraction=1.0,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            )
        ),
    ),
    test_cfg=dict(
        # config.py: the same settings under TEST.
        rpn=dict(
            nms_pre=6000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
        ),
        # config.py: test_cls_threshold, test_nms, test_max_boxes_per_image.
        rcnn=dict(
            score_thr=0.0,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=100,
        ),
    ),
)

# config.py: image_short_size = 800, image_max_size = 1333, also in eval.
scale = (1333, 800)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[2].scale = scale
test_pipeline[1].scale = scale
# config.py: train_batch_per_gpu = 2; the paper's authors train on 8 GPUs.
train_dataloader = dict(
    batch_size=2, num_workers=2, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# config.py: max_epoch = 30 with nr_image_per_epoch = 80000. That is 20.3
# epochs of train2017; this config trains 20, which is 1.4 % less.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    # config.py: warm_iter = 500, warm_fractor = 1 / 3; less in a short run.
    dict(
        type='OfRun',
        convert_to_iter_based=True,
        share=(0.0, 0.2),
        longest=500,
        scheduler=dict(type='LinearLR', start_factor=1 / 3),
    ),
    # config.py: a tenth after 19 and 25 of 30 epochs; as shares, these points
    # follow the length of the run.
    dict(
        type='OfRun',
        convert_to_iter_based=True,
        scheduler=dict(
            type='MultiStepLR', milestones=[19 / 30, 25 / 30], gamma=0.1
        ),
    ),
]
optim_wrapper = dict(
    type='OptimWrapper',
    # config.py: basic_lr = 5e-4 * 2 * 1.25 per GPU, momentum, weight_decay;
    # train.py multiplies the rate by the number of GPUs.
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(
        # config.py: BIAS_DECAY = False.
        bias_decay_mult=0.0,
        # train.py: three times the gradients of conv_new, including weight
        # decay. mmengine ignores `bias_decay_mult` for keys listed here.
        custom_keys={
            'neck.thin_conv': dict(lr_mult=3.0),
            'neck.reduce': dict(lr_mult=3.0),
            'neck.reduce.0.bias': dict(lr_mult=3.0, decay_mult=0.0),
            **{
                f'neck.thin_conv.{branch}.{conv}.bias': dict(
                    lr_mult=3.0, decay_mult=0.0
                )
                for branch in ('vertical_first', 'horizontal_first')
                for conv in ('conv1', 'conv2')
            },
        },
    ),
)
# 8 GPUs x 2 images.
auto_scale_lr = dict(enable=True, base_batch_size=16)
