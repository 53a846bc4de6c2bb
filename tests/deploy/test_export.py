"""An exported file gives what its checkpoint gives."""

import json

import numpy as np
import pytest
import torch
from trained import build, save

from mmdet_shufflenetv2.cli import main
from mmdet_shufflenetv2.deploy import export as exporting
from mmdet_shufflenetv2.deploy.graph import DetectorGraph
from mmdet_shufflenetv2.deploy.runtime import Resize
from mmdet_shufflenetv2.errors import UserError

onnx = pytest.importorskip('onnx', reason='needs onnx: pip install .[export]')
pytest.importorskip('onnxscript')

# One of each family; widths and class-agnostic boxes are the same code.
FAMILIES = [
    'lighthead_shufflenetv2_custom',
    'lighthead_shufflenetv2_x0_5',
    'lighthead_shufflenetv2star_x0_5',
    'lighthead_shufflenetv1_x0_5',
    'lighthead_mobilenetv2_x0_15',
    'lighthead_xception_x0_5',
    'lighthead_resnet50',
    'rfcn_shufflenetv2',
    'light/thundernet_snet49_320',
]
SIZE = 96, 128


def pictures(count, height=SIZE[0], width=SIZE[1]):
    """Coarse noise, so that features differ from place to place."""
    generator = np.random.default_rng(count)
    small = generator.integers(0, 256, (count, height // 8, width // 8, 3))
    return small.repeat(8, 1).repeat(8, 2).astype(np.uint8)


@pytest.mark.parametrize('name', FAMILIES)
def test_graph_finds_what_mmdet_finds(root, name):
    model, _ = build(root / f'configs/{name}.py')
    graph = DetectorGraph(model).eval()
    # R-FCN rounds RoIs to cells: rounding may move one by a cell.
    allowed = 2 if 'rfcn' in name else 0
    image = pictures(2)
    # The second is padded on the right and below.
    size = np.array([SIZE, (80, 100)], np.float32)
    with torch.no_grad():
        boxes, scores, labels, count, _ = graph(
            torch.from_numpy(image), torch.from_numpy(size)
        )
    found = exporting.Differences()
    for row in range(2):
        one = slice(row, row + 1)
        _, expected = exporting.original(graph, image[one], size[one])
        assert count[row] > 20
        assert abs(len(expected.scores) - int(count[row])) <= allowed
        exporting.match(
            found,
            name,
            expected,
            boxes[row, : count[row]].numpy(),
            scores[row].numpy(),
            labels[row].numpy(),
        )
        assert (labels[row, count[row] :] == -1).all()
        assert not boxes[row, count[row] :].any()
    assert len(found.missing) <= 2 * allowed, found.missing


@pytest.fixture(scope='module')
def export(root, tmp_path_factory):
    """Export a config's detector; its path and what was said."""
    folder = tmp_path_factory.mktemp('export')

    def make(name='lighthead_shufflenetv2_custom', **options):
        torch.manual_seed(0)
        checkpoint = folder / f'{name.replace("/", "_")}.pth'
        if not checkpoint.exists():
            save(*build(root / f'configs/{name}.py'), checkpoint)
        output = checkpoint.with_suffix(f'.{"_".join(options)}.onnx')
        said = []
        found = exporting.export(
            checkpoint,
            output,
            **{'image_size': SIZE[::-1], **options},
            pictures=[*pictures(3), pictures(1, 80, 120)[0]],
            log=said.append,
        )
        return output, found, said

    return make


@pytest.mark.parametrize('name', FAMILIES)
def test_file_agrees_with_its_checkpoint(export, name):
    output, found, said = export(name)
    assert found.compared > 80
    assert found.features < 1e-4
    assert found.scores < 1e-3
    model = onnx.load(output)
    assert [(o.domain, o.version) for o in model.opset_import] == [('', 18)]
    assert {node.domain for node in model.graph.node} == {''}
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {'BatchNormalization', 'Loop', 'If', 'NonZero'}
    assert [o.name for o in model.graph.output] == [
        'boxes',
        'scores',
        'labels',
        'count',
    ]
    for value in (*model.graph.input, *model.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        assert all(each.dim_value > 0 for each in dimensions), value
    assert 'opset 18' in said[0]
    assert 'detections missing' in said[-1]


@pytest.mark.parametrize('options', [dict(batch=2), dict(dynamic=True)])
def test_batches_and_free_sizes_agree(export, options):
    output, found, _ = export(**options)
    assert found.compared > 80
    assert not found.missing
    shape = onnx.load(output).graph.input[0].type.tensor_type.shape.dim
    assert shape[0].dim_value == options.get('batch', 1)
    assert bool(shape[1].dim_param) == options.get('dynamic', False)


def test_metadata_say_what_a_runner_must_know(export):
    output, _, _ = export(proposals=17)
    properties = onnx.load(output).metadata_props
    metadata = {each.key: each.value for each in properties}
    assert metadata.pop('format') == 'mmdet_shufflenetv2 detector 1'
    metadata = {key: json.loads(value) for key, value in metadata.items()}
    assert metadata['classes'] == [f'class {i}' for i in range(5)]
    assert metadata['input']['order'] == 'RGB'
    assert metadata['input']['mean'] == [123.675, 116.28, 103.53]
    assert metadata['resize'] == dict(
        width=128, height=96, keep_ratio=True, turn=False
    )
    assert metadata['thresholds']['proposals'] == 17
    assert metadata['export']['source'] == 'lighthead_shufflenetv2_custom.pth'
    assert metadata['export']['opset'] == 18


def test_file_that_disagrees_leaves_the_earlier_one(
    root, tmp_path, monkeypatch
):
    save(
        *build(root / 'configs/lighthead_shufflenetv2_custom.py'),
        tmp_path / 'best.pth',
    )
    (tmp_path / 'best.onnx').write_bytes(b'earlier')
    genuine = exporting.original

    def lower(*arguments):
        features, found = genuine(*arguments)
        found.scores = found.scores * 0.9
        return features, found

    monkeypatch.setattr(exporting, 'original', lower)
    with pytest.raises(UserError, match=r'does not agree .* not written'):
        exporting.export(
            tmp_path / 'best.pth',
            tmp_path / 'best.onnx',
            image_size=SIZE[::-1],
            pictures=pictures(2),
        )
    assert (tmp_path / 'best.onnx').read_bytes() == b'earlier'
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ['best.onnx', 'best.pth']


def test_command_exits_with_an_error_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as raised:
        main('export', [str(tmp_path / 'absent.pth')])
    assert raised.value.code == 2
    assert 'absent.pth: no such file' in capsys.readouterr().err


def test_unknown_part_is_refused_by_name(root):
    path = root / 'configs/lighthead_shufflenetv2_custom.py'
    soft = {'test_cfg.rcnn.nms.type': 'soft_nms'}
    with pytest.raises(UserError, match=r"of type 'nms'"):
        DetectorGraph(build(path, **soft)[0])
    model, _ = build(path)
    (layer,) = model.roi_head.bbox_roi_extractor.roi_layers
    layer.sampling_ratio = 0
    with pytest.raises(UserError, match='sampling_ratio above 0'):
        DetectorGraph(model)


def test_resize_rule_is_that_of_mmdet():
    from mmcv.image import rescale_size

    rule = Resize(1200, 800, turn=True)
    for size in (640, 480), (480, 640), (3000, 100), (31, 977), (800, 800):
        assert rule.target(*size) == rescale_size(size, (1200, 800))
    assert Resize(416, 416).target(20000, 1) == (416, 1)
    assert Resize(300, 200, keep_ratio=False).target(7, 9) == (300, 200)
