"""mmdet's own models train and predict on the stand-in."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from mmengine.hub import get_config

# By what each asks of mmcv.ops besides nms.
CONFIGS = {
    'RoIAlign': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'focal loss': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'RoIAlign of masks': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'deformable convolution v1': (
        'dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py'
    ),
    'deformable convolution v2': (
        'dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py'
    ),
    'deformable RoI pooling': 'dcn/faster-rcnn_r50_fpn_dpool_1x_coco.py',
    'CARAFE': 'carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py',
    'masked convolution': (
        'guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco.py'
    ),
    'offsets larger than the output': 'dyhead/atss_r50_fpn_dyhead_1x_coco.py',
    'nms_match': 'pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py',
}


@pytest.fixture(scope='module', autouse=True)
def mmdet_modules():
    register_all_modules(init_default_scope=True)


SMALLER = dict(
    nms_pre=50,
    max_per_img=20,
    num=16,
    num_convs=1,
    stacked_convs=1,
    fc_out_channels=32,
)


def shrink(node) -> None:
    """Thin layers, few proposals, no downloads; in place."""
    if isinstance(node, (list, tuple)):
        for item in node:
            shrink(item)
    if not isinstance(node, ConfigDict):
        return
    node.pop('init_cfg', None)
    for name, value in list(node.items()):
        if isinstance(value, int) and name in SMALLER:
            node[name] = min(value, SMALLER[name])
        if name.endswith('channels') and value == 256:
            node[name] = 32
    if node.get('type') == 'ResNet':
        node.update(base_channels=8, stem_channels=8)
    if node.get('in_channels') == [256, 512, 1024, 2048]:
        node.in_channels = [32, 64, 128, 256]
    for value in node.values():
        shrink(value)


def make_data(model: torch.nn.Module, num_images: int) -> dict:
    inputs = demo_mm_inputs(
        num_images, [[3, 64, 96]] * num_images, with_mask=True
    )
    return model.data_preprocessor(inputs, training=True)


def assert_predicts(model: torch.nn.Module, data: dict) -> None:
    model.eval()
    with torch.no_grad():
        results = model.forward(**data, mode='predict')
    assert len(results) == len(data['data_samples'])
    for result in results:
        assert isinstance(result, DetDataSample)
        assert result.pred_instances.bboxes.isfinite().all()


@pytest.mark.parametrize('needs', CONFIGS)
def test_a_stock_model_trains_and_predicts(needs):
    torch.manual_seed(0)
    config = get_config(f'mmdet::{CONFIGS[needs]}').model
    shrink(config)
    model = MODELS.build(config)
    data = make_data(model, num_images=2)

    losses = model.forward(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    trained = [p for p in model.parameters() if p.requires_grad]
    grads = [p.grad for p in trained if p.grad is not None]
    assert len(grads) > 0.8 * len(trained)
    assert all(grad.isfinite().all() for grad in grads)
    # Masked convolution predicts one image at a time.
    assert_predicts(model, make_data(model, num_images=1))
