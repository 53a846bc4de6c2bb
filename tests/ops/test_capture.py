"""The ops in TorchScript, torch.fx and graphs for other runtimes."""

import io

import pytest
import torch
from torch import Tensor, nn

from mmdet_shufflenetv2.ops import (
    PSRoIAlign,
    PSRoIPool,
    ps_roi_align,
    ps_roi_pool,
)

SIZE, SCALE = (3, 2), 1 / 16
MODULES = {
    'align': lambda: PSRoIAlign(SIZE, SCALE, 2, mode='max', bin_major=True),
    'adaptive align': lambda: PSRoIAlign(SIZE, SCALE),
    'pool': lambda: PSRoIPool(SIZE, SCALE),
}


class Calls(nn.Module):
    """Calls the functions, as a user's module does."""

    def forward(self, ps_map: Tensor, boxes: list[Tensor]) -> Tensor:
        aligned = ps_roi_align(ps_map, boxes, (3, 2), 0.0625, 2)
        return aligned + ps_roi_pool(ps_map, boxes, (3, 2), 0.0625)


@pytest.fixture
def lists(rois) -> list[Tensor]:
    return [rois[rois[:, 0] == i, 1:] for i in (0, 1)]


@pytest.mark.parametrize('name', MODULES)
def test_modules_script_save_and_load(ps_map, rois, name):
    module = MODULES[name]()
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    leaves = [ps_map.clone().requires_grad_() for _ in range(2)]
    output, expected = loaded(leaves[0], rois), module(leaves[1], rois)
    torch.testing.assert_close(output, expected)
    for pooled in (output, expected):
        pooled.square().sum().backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad)


def test_functions_script_alone_and_inside_of_others(ps_map, rois, lists):
    expected = Calls()(ps_map, lists)
    torch.testing.assert_close(
        torch.jit.script(Calls())(ps_map, lists), expected
    )
    for function in (ps_roi_align, ps_roi_pool):
        torch.testing.assert_close(
            torch.jit.script(function)(ps_map, rois, 2, SCALE),
            function(ps_map, rois, 2, SCALE),
        )


def test_fx_traces_modules_and_functions(ps_map, rois, lists):
    for make in MODULES.values():
        module = make()
        traced = torch.fx.symbolic_trace(module)
        torch.testing.assert_close(traced(ps_map, rois), module(ps_map, rois))
    traced = torch.fx.symbolic_trace(Calls())
    targets = [node.target for node in traced.graph.nodes]
    assert ps_roi_align in targets
    assert ps_roi_pool in targets
    torch.testing.assert_close(traced(ps_map, lists), Calls()(ps_map, lists))


@pytest.mark.parametrize('name', ['align', 'pool'])
def test_exported_indices_are_int64(ps_map, rois, name):
    """ONNX Runtime refuses to gather by int32."""
    module = MODULES[name]()
    program = torch.export.export(module, (ps_map, rois))
    gathers = [
        node
        for node in program.graph.nodes
        if str(node.target).startswith(('aten.index', 'aten.gather'))
    ]
    assert gathers
    for node in gathers:
        for index in torch.utils._pytree.tree_leaves(node.args[1:]):
            if isinstance(index, torch.fx.Node):
                assert index.meta['val'].dtype == torch.int64


@pytest.mark.parametrize('name', ['align', 'pool'])
def test_onnx_runtime_gives_the_same_values(tmp_path, rois, name):
    pytest.importorskip('onnxscript')
    runtime = pytest.importorskip('onnxruntime')
    module = MODULES[name]()
    ps_map, rois = torch.randn(2, 12, 9, 11), rois.float()
    path = tmp_path / 'op.onnx'
    torch.onnx.export(module, (ps_map, rois), str(path), dynamo=True)
    session = runtime.InferenceSession(
        str(path), providers=['CPUExecutionProvider']
    )
    inputs = dict(
        zip(
            (each.name for each in session.get_inputs()),
            (ps_map.numpy(), rois.numpy()),
            strict=True,
        )
    )
    (output,) = session.run(None, inputs)
    torch.testing.assert_close(
        torch.from_numpy(output), module(ps_map, rois), atol=1e-5, rtol=1e-5
    )
