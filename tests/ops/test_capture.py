"""The ops in torch.fx and in exported graphs."""

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
    'align': lambda: PSRoIAlign(SIZE, SCALE, 2, mode='max'),
    'pool': lambda: PSRoIPool(SIZE, SCALE),
}
every_module = pytest.mark.parametrize('name', MODULES)


class Calls(nn.Module):
    """A user's module that calls the functions."""

    def forward(self, ps_map: Tensor, boxes: list[Tensor]) -> Tensor:
        aligned = ps_roi_align(ps_map, boxes, (3, 2), 0.0625, 2)
        return aligned + ps_roi_pool(ps_map, boxes, (3, 2), 0.0625)


def test_fx_traces_modules_and_functions(ps_map, rois):
    for make in MODULES.values():
        module = make()
        traced = torch.fx.symbolic_trace(module)
        torch.testing.assert_close(traced(ps_map, rois), module(ps_map, rois))
    lists = [rois[rois[:, 0] == i, 1:] for i in (0, 1)]
    traced = torch.fx.symbolic_trace(Calls())
    targets = [node.target for node in traced.graph.nodes]
    assert {ps_roi_align, ps_roi_pool} <= {*targets}
    torch.testing.assert_close(traced(ps_map, lists), Calls()(ps_map, lists))


@every_module
def test_exported_indices_are_int64(ps_map, rois, name):
    """ONNX Runtime does not gather with int32 indices."""
    program = torch.export.export(MODULES[name](), (ps_map, rois))
    indices = [
        index.meta['val'].dtype
        for node in program.graph.nodes
        if str(node.target).startswith(('aten.index', 'aten.gather'))
        for index in torch.utils._pytree.tree_leaves(node.args[1:])
        if isinstance(index, torch.fx.Node)
    ]
    assert set(indices) == {torch.int64}


@every_module
def test_onnx_runtime_gives_the_same_values(tmp_path, rois, name):
    pytest.importorskip('onnxscript')
    runtime = pytest.importorskip('onnxruntime')
    module = MODULES[name]()
    given = torch.randn(2, 12, 9, 11), rois.float()
    path = str(tmp_path / 'op.onnx')
    torch.onnx.export(module, given, path, dynamo=True, verbose=False)
    session = runtime.InferenceSession(
        path, providers=['CPUExecutionProvider']
    )
    names = [each.name for each in session.get_inputs()]
    arrays = [each.numpy() for each in given]
    (output,) = session.run(None, dict(zip(names, arrays, strict=True)))
    torch.testing.assert_close(
        torch.from_numpy(output), module(*given), atol=1e-5, rtol=1e-5
    )
