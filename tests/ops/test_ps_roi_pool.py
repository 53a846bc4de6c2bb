import sys

import pytest
import references
import torch
import torch.nn.functional as F
import torchvision

from mmdet_shufflenetv2.ops import PSRoIPool, ps_roi_pool

SIZE, SCALE = (3, 2), 1 / 16
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


@pytest.fixture(params=['cells', 'integral image'])
def way(request, monkeypatch):
    """Run a test both ways, though an eager CPU tensor goes by cells."""
    module = sys.modules[ps_roi_pool.__module__]
    known = request.param == 'cells'
    monkeypatch.setattr(module, 'values_known', lambda tensor: known)


def gradient(op, ps_map):
    leaf = ps_map.detach().clone().requires_grad_()
    output = op(leaf)
    generator = torch.Generator().manual_seed(1)
    weight = torch.rand(output.shape, generator=generator)
    weight = weight.to(output)
    (grad,) = torch.autograd.grad((output * weight).sum(), leaf)
    return grad


@pytest.mark.usefixtures('way')
@pytest.mark.parametrize('bin_major', [True, False])
def test_equals_loops(ps_map, rois, bin_major):
    args = (rois, SIZE, SCALE)
    output = ps_roi_pool(ps_map, *args, bin_major=bin_major)
    expected = references.ps_roi_pool(ps_map, *args, bin_major=bin_major)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    assert output.is_contiguous()
    torch.testing.assert_close(
        gradient(lambda m: ps_roi_pool(m, *args, bin_major=bin_major), ps_map),
        gradient(
            lambda m: references.ps_roi_pool(m, *args, bin_major=bin_major),
            ps_map,
        ),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.usefixtures('way')
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_torchvision_except_at_the_last_row_and_column(dtype):
    generator = torch.Generator().manual_seed(2)
    ps_map = torch.randn(3, 98, 20, 28, generator=generator, dtype=dtype)
    rois = torch.rand(300, 5, generator=generator, dtype=dtype) * 300 - 30
    rois[:, 0] = torch.randint(3, (300,), generator=generator)
    rois[:, 3:] = rois[:, 1:3] + rois[:, 3:].abs().clamp(min=1)
    inner = (rois[:, 3] < 27 * 16 - 8) & (rois[:, 4] < 19 * 16 - 8)
    assert 50 < int(inner.sum()) < 250
    output = ps_roi_pool(ps_map, rois, 7, SCALE)
    expected = torchvision.ops.ps_roi_pool(ps_map, rois, 7, SCALE)
    atol = TOLERANCE[dtype]
    torch.testing.assert_close(
        output[inner], expected[inner], rtol=0, atol=atol
    )
    assert not torch.allclose(output[~inner], expected[~inner], atol=1e-3)
    # torchvision's backward knows the last row and column.
    torch.testing.assert_close(
        gradient(lambda m: ps_roi_pool(m, rois, 7, SCALE), ps_map),
        gradient(
            lambda m: torchvision.ops.ps_roi_pool(m, rois, 7, SCALE), ps_map
        ),
        rtol=0,
        atol=atol,
    )


@pytest.mark.usefixtures('way')
def test_last_row_and_column_are_pooled():
    ps_map = F.pad(torch.zeros(1, 4, 7, 7), (0, 1, 0, 1), value=1.0)
    output = ps_roi_pool(ps_map, torch.tensor([[0.0, 6, 6, 8, 8]]), 2)
    expected = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).view(1, 1, 2, 2)
    torch.testing.assert_close(output, expected)


@pytest.mark.usefixtures('way')
def test_small_bins_keep_their_precision_on_a_large_offset():
    # Sums over the whole map are 1e7 times a bin: float32 would lose it.
    generator = torch.Generator().manual_seed(3)
    ps_map = torch.randn(1, 4, 100, 100, generator=generator) + 1000
    rois = torch.tensor([[0.0, 95, 95, 99, 99]])
    expected = references.ps_roi_pool(ps_map.double(), rois, (2, 2))
    torch.testing.assert_close(
        ps_roi_pool(ps_map, rois, 2), expected.float(), rtol=3e-7, atol=0
    )


@pytest.mark.usefixtures('way')
def test_gradcheck(ps_map, rois):
    leaf = ps_map[:, :6, :4, :5].contiguous().requires_grad_()

    def pool(m):
        return ps_roi_pool(m, rois, SIZE, 0.03)

    assert torch.autograd.gradcheck(pool, leaf, fast_mode=True)
    assert torch.autograd.gradgradcheck(pool, leaf, fast_mode=True)


@pytest.mark.usefixtures('way')
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_broken_rois_give_zeros_and_no_gradient(ps_map, rois, broken, dtype):
    ps_map, boxes = ps_map.to(dtype), torch.cat([broken, rois]).to(dtype)
    output = ps_roi_pool(ps_map, boxes, SIZE, SCALE)
    assert (output[: len(broken)] == 0).all()
    legal = ps_roi_pool(ps_map, rois.to(dtype), SIZE, SCALE)
    torch.testing.assert_close(output[len(broken) :], legal)
    boxes = boxes[: len(broken)]
    grad = gradient(lambda m: ps_roi_pool(m, boxes, SIZE, SCALE), ps_map)
    assert (grad == 0).all()


@pytest.mark.usefixtures('way')
def test_no_rois(ps_map):
    leaf = ps_map.requires_grad_()
    output = ps_roi_pool(leaf, ps_map.new_zeros(0, 5), SIZE, SCALE)
    assert output.shape == (0, 2, 3, 2)
    output.sum().backward()
    assert (leaf.grad == 0).all()


@pytest.mark.usefixtures('way')
@pytest.mark.parametrize('bin_major', [True, False])
def test_memory_layout_does_not_matter(ps_map, rois, bin_major):
    def pool(m):
        return ps_roi_pool(m, rois, SIZE, SCALE, bin_major=bin_major)

    last = ps_map.contiguous(memory_format=torch.channels_last)
    for layout in (last, ps_map.transpose(2, 3).contiguous().mT):
        torch.testing.assert_close(pool(layout), pool(ps_map))
        leaf = layout.detach().requires_grad_()
        (grad,) = torch.autograd.grad(pool(leaf).square().sum(), leaf)
        plain = ps_map.clone().requires_grad_()
        (expected,) = torch.autograd.grad(pool(plain).square().sum(), plain)
        torch.testing.assert_close(grad, expected)


def test_list_of_boxes_equals_one_tensor(ps_map, rois):
    rois = rois[rois[:, 0].argsort(stable=True)]
    boxes = [rois[rois[:, 0] == i, 1:] for i in (0, 1)]
    torch.testing.assert_close(
        ps_roi_pool(ps_map, boxes, SIZE, SCALE),
        ps_roi_pool(ps_map, rois, SIZE, SCALE),
    )


@pytest.mark.usefixtures('way')
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_accumulates_in_float32(ps_map, rois, dtype):
    ps_map, rois = ps_map.to(dtype), rois.float()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = ps_roi_pool(ps_map, rois, SIZE, SCALE)
    assert output.dtype == dtype
    exact = ps_roi_pool(ps_map.float(), rois, SIZE, SCALE)
    torch.testing.assert_close(output, exact.to(dtype), rtol=0, atol=0)


def test_compiles_as_one_graph(ps_map, rois):
    def pool(m):
        return ps_roi_pool(m, rois, SIZE, SCALE)

    compiled = torch.compile(pool, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(
        gradient(compiled, ps_map), gradient(pool, ps_map)
    )


def test_meta_and_fake_tensors_give_shapes():
    ps_map = torch.empty(2, 490, 50, 75, device='meta')
    boxes = torch.empty(300, 5, device='meta')
    assert ps_roi_pool(ps_map, boxes, 7).shape == (300, 10, 7, 7)
    with torch._subclasses.FakeTensorMode():
        ps_map = torch.empty(2, 490, 50, 75, requires_grad=True)
        output = ps_roi_pool(ps_map, torch.empty(300, 5), 7)
        output.sum().backward()
    assert output.shape == (300, 10, 7, 7)
    assert ps_map.grad.shape == ps_map.shape


def test_export_uses_plain_nodes_with_equal_values(ps_map, rois):
    module = PSRoIPool(SIZE, SCALE)
    count = torch.export.Dim('count', min=2, max=5000)
    program = torch.export.export(
        module, (ps_map, rois), dynamic_shapes=({}, {0: count})
    )
    for boxes in (rois, rois[:4]):
        torch.testing.assert_close(
            program.module()(ps_map, boxes), module(ps_map, boxes)
        )
    if hasattr(torch.compiler, 'is_exporting'):
        assert 'mmdet_shufflenetv2.row_sum' not in str(program.graph)


@pytest.mark.parametrize(
    'change,message',
    [
        ({'input': torch.zeros(2, 13, 9, 11)}, 'multiple of the 6 bins'),
        ({'boxes': torch.zeros(3, 4)}, r'\(K, 5\).*got \(3, 4\)'),
        ({'boxes': torch.tensor([[2.0, 0, 0, 9, 9]])}, r'\[0, 1\].*got 2'),
        ({'output_size': -1}, 'output_size: '),
        ({'spatial_scale': -0.5}, 'spatial_scale: '),
    ],
)
def test_wrong_argument_is_named(change, message):
    arguments = {
        'input': torch.zeros(2, 12, 9, 11),
        'boxes': torch.zeros(3, 5),
        'output_size': SIZE,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        ps_roi_pool(**arguments)


def test_module_equals_function_and_tells_its_options(ps_map, rois):
    module = PSRoIPool(SIZE, SCALE, bin_major=True)
    torch.testing.assert_close(
        module(ps_map, rois),
        ps_roi_pool(ps_map, rois, SIZE, SCALE, bin_major=True),
    )
    assert repr(module) == (
        'PSRoIPool(output_size=(3, 2), spatial_scale=0.0625, bin_major=True)'
    )


@pytest.mark.gpu
def test_gpu_equals_cpu(ps_map, rois, broken):
    rois = torch.cat([rois, broken])

    def pool(m):
        return ps_roi_pool(m, rois.to(m), SIZE, SCALE)

    torch.testing.assert_close(pool(ps_map.cuda()).cpu(), pool(ps_map))
    torch.testing.assert_close(
        gradient(pool, ps_map.cuda()).cpu(), gradient(pool, ps_map)
    )
