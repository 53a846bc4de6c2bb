"""Exported files agree with their checkpoints."""

import copy
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from trained import build

from mmdet_shufflenetv2.deploy import export as exporting
from mmdet_shufflenetv2.deploy.folding import Backbone, pick
from mmdet_shufflenetv2.deploy.graph import DetectorGraph
from mmdet_shufflenetv2.deploy.runtime import Detector, Resize
from mmdet_shufflenetv2.errors import UserError

onnx = pytest.importorskip('onnx', reason='needs onnx: pip install .[export]')
pytest.importorskip('onnxscript')

# One config per family; widths and class-agnostic boxes share its code.
FAMILIES = [
    'lighthead_shufflenetv2_custom',
    'lighthead_shufflenetv2_x0_5',
    'lighthead_shufflenetv2star_x0_5',
    'lighthead_shufflenetv1_x0_5',
    'lighthead_mobilenetv2_x0_15',
    'lighthead_xception_x0_5',
    'rfcn_shufflenetv2',
    'light/thundernet_snet49_320',
]
# Configs to export to files: every kind of pooling and of neck.
FILES = [FAMILIES[1], *FAMILIES[-2:]]
SIZE = 96, 128


def pictures(count, height=SIZE[0], width=SIZE[1]):
    """Coarse noise, so that features differ from place to place."""
    generator = np.random.default_rng(count)
    small = generator.integers(0, 256, (count, height // 8, width // 8, 3))
    return small.repeat(8, 1).repeat(8, 2).astype(np.uint8)


PICTURES = [*pictures(2), *pictures(1, 80, 120)]
PORTRAIT = pictures(1, 120, 80)


@pytest.mark.parametrize('name', FAMILIES)
def test_graph_finds_what_mmdet_finds(root, name):
    model, _ = build(root / f'configs/{name}.py')
    graph = DetectorGraph(model).eval()
    # R-FCN rounds RoIs to cells: rounding may move one by a cell.
    share = exporting.POOLED_SHARE if 'rfcn' in name else 0
    image = pictures(2)
    # The second is padded on the right and below.
    size = np.array([SIZE, (80, 100)], np.float32)
    with torch.no_grad():
        outputs = graph(torch.from_numpy(image), torch.from_numpy(size))
    boxes, scores, labels, count = (each.numpy() for each in outputs[:4])
    found = exporting.Differences()
    for row in range(2):
        one = slice(row, row + 1)
        _, expected = exporting.original(graph, image[one], size[one])
        assert count[row] > 20
        assert len(expected) == pytest.approx(count[row], rel=share, abs=0)
        given = boxes[row], scores[row], labels[row]
        found.add_detections(name, expected, *given, threshold=0.0)
        assert (labels[row, count[row] :] == -1).all()
        assert not boxes[row, count[row] :].any()
    assert len(found.missing) <= share * found.compared, found.missing


@pytest.mark.parametrize(
    'options', [dict(style='authors'), dict(receptive_field='enlarged')]
)
def test_backbone_without_shuffles_equals_the_one_with(options):
    from mmdet_shufflenetv2.backbones.shufflenet_v2 import ShuffleNetV2

    torch.manual_seed(0)
    backbone = ShuffleNetV2(0.5, out_indices=(0, 1, 2, 3), **options).eval()
    for layer in backbone.double().modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.01, 0.1)
    folded = Backbone(backbone).double()
    x = torch.randn(1, 3, 64, 96).double()
    with torch.no_grad():
        given, expected = folded(x), backbone(x)
    for one, other, order in zip(given, expected, folded.orders, strict=True):
        assert sorted(set(order) - {-1}) == list(range(other.shape[1]))
        scale = other.std()
        assert scale > 1e-3
        expected = pick(other, order, 1) / scale
        torch.testing.assert_close(one / scale, expected, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope='module')
def export(root, tmp_path_factory):
    """Export a config's detector; returns the path, differences and log."""
    from mmdet_shufflenetv2.deploy import formats

    folder = tmp_path_factory.mktemp('export')
    graphs, to_onnx = {}, formats.to_onnx

    def once(graph, height, width, batch):
        """Run the slow step once for all precisions and formats."""
        key = type(graph.detector.neck), batch, graph.dynamic
        if key not in graphs:
            graphs[key] = to_onnx(graph, height, width, batch)
        return copy.deepcopy(graphs[key])

    def make(name='lighthead_shufflenetv2_x0_5', suffix='.onnx', **options):
        detector, _ = build(root / f'configs/{name}.py')
        stem = '_'.join([name.replace('/', '_'), *options])
        output, lines = folder / f'{stem}{suffix}', []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(formats, 'to_onnx', once)
            found = exporting.export(
                detector,
                output,
                source='best.pth',
                image_size=SIZE[::-1],
                log=lines.append,
                **dict(pictures=PICTURES) | options,
            )
        return output, found, lines

    return make


@pytest.mark.parametrize('name', FILES)
def test_file_agrees_with_its_checkpoint(export, name):
    output, found, lines = export(name)
    assert found.compared > 60
    assert found.features < 1e-4
    assert found.scores < 1e-3
    model = onnx.load(output)
    assert [(o.domain, o.version) for o in model.opset_import] == [('', 18)]
    kinds = [node.op_type for node in model.graph.node]
    assert not {'BatchNormalization', 'Loop', 'If', 'NonZero'} & set(kinds)
    # For the image's layout, the anchors' deltas and the bins, not a shuffle.
    assert kinds.count('Transpose') <= 3 or 'rfcn' in name
    names = [output.name for output in model.graph.output]
    assert names == ['boxes', 'scores', 'labels', 'count']
    for value in (*model.graph.input, *model.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        assert all(each.dim_value > 0 for each in dimensions), value
    assert 'opset 18' in lines[0]
    assert 'detections missing' in lines[-1]


def test_half_precision_halves_the_file(export):
    whole, half = export()[0], export(precision='fp16')[0]
    assert half.stat().st_size < 0.7 * whole.stat().st_size


def test_int8_keeps_scores_and_boxes_in_float(export):
    output, found, _ = export(precision='int8', calibration=list(pictures(4)))
    assert found.agree
    assert found.features < 0.1
    model = onnx.load(output)
    assert {node.domain for node in model.graph.node} == {''}
    weights = {each.name for each in model.graph.initializer}
    assert {'head.fc_cls.weight', 'folded.rpn_head.rpn_reg.weight'} <= weights
    assert 'head.shared_fcs.0.weight_quantized' in weights


@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'int8'])
def test_file_that_finds_nothing_disagrees(precision):
    """Even if the original's best score is low, but not at the threshold."""
    nothing = np.zeros((2, 4)), np.zeros(2), np.full(2, -1)
    for score in 0.2, 0.0505:
        original = SimpleNamespace(
            bboxes=np.ones((1, 4)), scores=np.array([score]), labels=[0]
        )
        found = exporting.Differences(exporting.TOLERANCES[precision])
        found.add_detections('one', original, *nothing, threshold=0.05)
        assert found.compared == 1
        assert found.agree == (score < 0.1)


@pytest.mark.parametrize('given, expected', [(np.nan, 1), (1, np.nan), (0, 0)])
def test_features_without_finite_values_disagree(given, expected):
    found = exporting.Differences()
    found.add_features(np.full((2, 3), given), np.full((2, 3), expected))
    found.add_features(np.ones(3), np.ones(3))
    assert not found.agree


def test_scores_that_are_nan_disagree():
    original = SimpleNamespace(
        bboxes=np.ones((2, 4)), scores=np.array([0.9, 0.8]), labels=[0, 0]
    )
    found = exporting.Differences()
    nan = np.ones((2, 4)), np.full(2, np.nan), np.zeros(2, int)
    found.add_detections('one', original, *nan, threshold=0.05)
    assert not found.agree


def test_nothing_to_compare_is_reported(export, monkeypatch):
    def find_nothing(graph, **feed):
        features, found = original(graph, **feed)
        return features, found[:0]

    original = exporting.original
    monkeypatch.setattr(exporting, 'original', find_nothing)
    _, found, lines = export()
    assert not found.compared
    assert 'no detection was compared' in lines[-2]


def test_openvino_runs_the_same(export):
    pytest.importorskip('openvino', reason='needs openvino')
    output, found, _ = export(suffix='.xml', format='openvino')
    assert found.scores < 1e-3
    assert Detector(output).metadata['export']['source'] == 'best.pth'


NCNN = dict(suffix='.ncnn.param', format='ncnn', pictures=())


@pytest.mark.parametrize(
    'name, order',
    [
        (FILES[0], 'bin by bin;'),
        (FILES[1], 'value by value;'),
        (FILES[2], 'bin by bin, then 15 channels of zeros;'),
    ],
)
def test_ncnn_is_compared_with_the_detector(export, monkeypatch, name, order):
    """Not with its folded copy, which may be wrong, too."""
    from mmdet_shufflenetv2.deploy import formats

    networks = []
    monkeypatch.setattr(
        formats, 'to_ncnn', lambda network, *others: networks.append(network)
    )
    monkeypatch.setattr(
        formats,
        'run_ncnn',
        lambda path, image: [each.numpy() for each in networks[0](image)],
    )
    _, found, (line, *_) = export(name, **NCNN)
    assert found.features < 1e-4
    assert 'in0 RGB (3, 96, 128), minus [123.675, 116.28, 103.53]' in line
    assert order in line
    networks[0].rpn_head.rpn_cls.bias.data += 9
    with pytest.raises(UserError, match='does not agree'):
        export(name, **NCNN)


@pytest.mark.parametrize(
    'option',
    [
        dict(precision='fp16'),
        dict(batch=2),
        dict(dynamic=True),
        dict(proposals=9),
        dict(pictures=PICTURES),
    ],
)
def test_options_that_ncnn_would_ignore_are_refused(export, option):
    with pytest.raises(UserError, match='--format ncnn: expected no'):
        export(**NCNN | option)


def test_ncnn_has_the_network(export):
    pytest.importorskip('pnnx', reason='needs pnnx')
    output, _, lines = export(**NCNN)
    assert output.with_suffix('.bin').stat().st_size > 1e6
    assert 'box head are not included' in lines[0]


def test_absent_package_is_named(export, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pnnx', None)
    with pytest.raises(UserError, match='pip install pnnx'):
        export(**NCNN)


def test_batch_of_free_size_agrees_and_metadata_say_what_a_runner_must_know(
    export,
):
    images = [*PICTURES, *PORTRAIT]
    output, found, lines = export(
        batch=2, dynamic=True, proposals=17, pictures=images
    )
    assert found.compared > 60
    assert not found.missing
    assert not any('another size' in line for line in lines)
    # An image that is padded otherwise does not join the others' batch.
    detector = Detector(output, threads=1)
    together = detector([images[0], images[-1], images[1], images[2]])
    for one, image in zip(together[:2], (images[0], images[-1]), strict=True):
        np.testing.assert_array_equal(one.scores, detector(image).scores)
    model = onnx.load(output)
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert shape[0].dim_value == 2
    assert shape[1].dim_param
    metadata = {each.key: each.value for each in model.metadata_props}
    assert metadata.pop('format') == 'mmdet_shufflenetv2 detector 1'
    metadata = {key: json.loads(value) for key, value in metadata.items()}
    assert metadata['classes'] == [f'class {i}' for i in range(5)]
    assert metadata['input']['order'] == 'RGB'
    assert metadata['input']['mean'] == [123.675, 116.28, 103.53]
    assert metadata['resize'] == Resize(128, 96, turn=True)._asdict()
    assert metadata['thresholds']['proposals'] == 17
    assert metadata['export']['source'] == 'best.pth'


def test_file_that_disagrees_leaves_the_earlier_one(export, monkeypatch):
    earlier, _, _ = export()
    content = earlier.read_bytes()
    original = exporting.original

    def lower(graph, **feed):
        features, found = original(graph, **feed)
        found.scores = found.scores * 0.9
        return features, found

    monkeypatch.setattr(exporting, 'original', lower)
    with pytest.raises(UserError, match=r'does not agree (?s:.*) not written'):
        export()
    assert earlier.read_bytes() == content
    assert not list(earlier.parent.glob('.*'))


def test_pictures_that_a_fixed_size_changes_are_counted(export):
    _, _, lines = export(pictures=[*PICTURES, *PORTRAIT])
    assert any('1 of 4 pictures get another size' in line for line in lines)


def test_weights_with_nan_are_refused_by_name(root, tmp_path):
    model, _ = build(root / 'configs/lighthead_shufflenetv2_x0_5.py')
    model.roi_head.bbox_head.fc_cls.bias.data[1] = torch.nan
    with pytest.raises(UserError, match=r'NaN .* in roi_head.bbox_head.fc_c'):
        exporting.export(model, tmp_path / 'model.onnx')


def test_unknown_part_is_refused_by_name(root):
    path = root / 'configs/lighthead_shufflenetv2_custom.py'
    soft = {'test_cfg.rcnn.nms.type': 'soft_nms'}
    with pytest.raises(
        UserError, match=r'rcnn.nms.type: expected .* got soft'
    ):
        DetectorGraph(build(path, **soft)[0])


def test_resize_rule_is_that_of_mmdet():
    from mmcv.image import rescale_size

    rule = Resize(1200, 800, turn=True)
    for size in (640, 480), (480, 640), (3000, 100), (31, 977), (800, 800):
        assert rule.target(*size) == rescale_size(size, (1200, 800))
    assert Resize(416, 416).target(20000, 1) == (416, 1)
    assert Resize(300, 200, keep_ratio=False).target(7, 9) == (300, 200)
