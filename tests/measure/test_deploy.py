import pytest

from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.measure import deploy


@pytest.fixture
def model(tmp_path):
    """A small ONNX model."""
    helper = pytest.importorskip('onnx').helper
    ends = [helper.make_tensor_value_info(name, 1, [1]) for name in 'xy']
    node = helper.make_node('Relu', ['x'], ['y'])
    graph = helper.make_graph([node], 'g', ends[:1], ends[1:])
    opsets = [helper.make_opsetid('', 18)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path = tmp_path / 'other.onnx'
    path.write_bytes(made.SerializeToString())
    return path


def test_given_files_are_compared_and_missing_ones_rejected(asked, model):
    found = asked('deploy', '--against', model, '--int8', model, model)
    cases = [each.key['case'] for each in found]
    assert set(cases) == set(deploy.CASES)
    assert cases.count('other file') == len(deploy.LIGHT)
    left = {each.key['case'] for each in asked('deploy')}
    assert left == set(deploy.CASES) - {'other file', 'int8'}
    with pytest.raises(UserError, match='no file'):
        asked('deploy', '--against', 'absent.onnx')
    for words in ('--against', __file__), ('--int8', model, __file__):
        with pytest.raises(UserError, match=r'\.py: expected an ONNX model'):
            asked('deploy', *words)
    with pytest.raises(UserError, match='precision fp32'):
        asked('deploy', '--precision', 'bf16')
