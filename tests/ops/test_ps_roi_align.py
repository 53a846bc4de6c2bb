import itertools

import pytest
import references
import torch
import torchvision

from mmdet_shufflenetv2.ops import PSRoIAlign, ps_roi_align

SIZE, SCALE = (3, 2), 1 / 16
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def gradient(op, ps_map):
    leaf = ps_map.detach().clone().requires_grad_()
    output = op(leaf)
    generator = torch.Generator().manual_seed(1)
    weight = torch.rand(output.shape, generator=generator)
    weight = weight.to(output)
    (grad,) = torch.autograd.grad((output * weight).sum(), leaf)
    return grad


@pytest.mark.parametrize(
    'sampling_ratio,mode,aligned,bin_major',
    list(
        itertools.product(
            (-1, 1, 2, 3), ('avg', 'max'), (True, False), (True, False)
        )
    ),
)
def test_equals_loops(ps_map, rois, sampling_ratio, mode, aligned, bin_major):
    options = {'mode': mode, 'aligned': aligned, 'bin_major': bin_major}
    args = (rois, SIZE, SCALE, sampling_ratio)
    output = ps_roi_align(ps_map, *args, **options)
    expected = references.ps_roi_align(ps_map, *args, **options)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    assert output.is_contiguous()
    torch.testing.assert_close(
        gradient(lambda m: ps_roi_align(m, *args, **options), ps_map),
        gradient(
            lambda m: references.ps_roi_align(m, *args, **options), ps_map
        ),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('sampling_ratio', [-1, 0, 1, 2, 3, 5])
def test_equals_torchvision(ps_map, rois, sampling_ratio, dtype):
    ps_map, rois = ps_map.to(dtype), rois.to(dtype)
    args = (rois, SIZE, SCALE, sampling_ratio)
    atol = TOLERANCE[dtype]
    torch.testing.assert_close(
        ps_roi_align(ps_map, *args),
        torchvision.ops.ps_roi_align(ps_map, *args),
        rtol=0,
        atol=atol,
    )
    torch.testing.assert_close(
        gradient(lambda m: ps_roi_align(m, *args), ps_map),
        gradient(lambda m: torchvision.ops.ps_roi_align(m, *args), ps_map),
        rtol=0,
        atol=atol,
    )


@pytest.mark.parametrize('sampling_ratio', [-1, 2])
def test_many_random_rois_equal_torchvision(sampling_ratio):
    generator = torch.Generator().manual_seed(2)
    ps_map = torch.randn(3, 98, 20, 28, generator=generator)
    rois = torch.rand(400, 5, generator=generator) * 500 - 30
    rois[:, 0] = torch.randint(3, (400,), generator=generator)
    rois[:, 3:] = rois[:, 1:3] + rois[:, 3:].abs().clamp(min=1)
    args = (rois, 7, SCALE, sampling_ratio)
    torch.testing.assert_close(
        ps_roi_align(ps_map, *args),
        torchvision.ops.ps_roi_align(ps_map, *args),
        rtol=0,
        atol=2e-5,
    )


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('sampling_ratio', [-1, 2])
def test_gradcheck(ps_map, rois, sampling_ratio, mode):
    leaf = ps_map[:, :6, :4, :5].contiguous().requires_grad_()

    def pool(m):
        return ps_roi_align(m, rois, SIZE, 0.03, sampling_ratio, mode=mode)

    assert torch.autograd.gradcheck(pool, leaf, fast_mode=True)
    assert torch.autograd.gradgradcheck(pool, leaf, fast_mode=True)


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('sampling_ratio', [-1, 1, 2])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_broken_rois_give_zeros_and_no_gradient(
    ps_map, rois, broken, sampling_ratio, mode, dtype
):
    ps_map = ps_map.to(dtype)

    def pool(m, boxes):
        return ps_roi_align(m, boxes, SIZE, SCALE, sampling_ratio, mode=mode)

    output = pool(ps_map, torch.cat([broken, rois]).to(dtype))
    assert (output[: len(broken)] == 0).all()
    legal = pool(ps_map, rois.to(dtype))
    torch.testing.assert_close(output[len(broken) :], legal)
    grad = gradient(lambda m: pool(m, broken.to(dtype)), ps_map)
    assert (grad == 0).all()


def test_roi_far_larger_than_the_map_needs_no_more_memory(ps_map):
    # 1e7 samples per bin and side if they were all taken.
    rois = torch.tensor([[0, -1e8, -1e8, 1e8, 1e8]], dtype=torch.float64)
    output = ps_roi_align(ps_map, rois, SIZE, SCALE)
    assert output.isfinite().all()


@pytest.mark.parametrize('sampling_ratio', [-1, 2])
def test_no_rois(ps_map, sampling_ratio):
    leaf = ps_map.requires_grad_()
    boxes = ps_map.new_zeros(0, 5)
    output = ps_roi_align(leaf, boxes, SIZE, SCALE, sampling_ratio)
    assert output.shape == (0, 2, 3, 2)
    output.sum().backward()
    assert (leaf.grad == 0).all()


def test_no_images():
    output = ps_roi_align(torch.zeros(0, 12, 9, 11), torch.zeros(0, 5), SIZE)
    assert output.shape == (0, 2, 3, 2)


def test_map_of_one_cell_is_copied(rois):
    ps_map = torch.arange(12.0).view(1, 12, 1, 1)
    rois = torch.tensor([[0.0, 0, 0, 16, 16]])
    output = ps_roi_align(ps_map, rois, SIZE, SCALE, 2)
    torch.testing.assert_close(output, ps_map.view(1, 2, 3, 2))


@pytest.mark.parametrize('sampling_ratio', [-1, 2])
def test_list_of_boxes_equals_one_tensor(ps_map, rois, sampling_ratio):
    rois = rois[rois[:, 0].argsort(stable=True)]
    boxes = [rois[rois[:, 0] == i, 1:] for i in (0, 1)]
    args = (SIZE, SCALE, sampling_ratio)
    torch.testing.assert_close(
        ps_roi_align(ps_map, boxes, *args), ps_roi_align(ps_map, rois, *args)
    )


@pytest.mark.parametrize('bin_major', [True, False])
@pytest.mark.parametrize('sampling_ratio', [-1, 2])
def test_memory_layout_does_not_matter(
    ps_map, rois, sampling_ratio, bin_major
):
    def pool(m):
        args = (rois, SIZE, SCALE, sampling_ratio)
        return ps_roi_align(m, *args, bin_major=bin_major)

    expected, expected_grad = pool(ps_map), gradient(pool, ps_map)
    wide = torch.zeros(2, 12, 9, 22, dtype=ps_map.dtype)
    wide[..., ::2] = ps_map
    for layout in (
        ps_map.contiguous(memory_format=torch.channels_last),
        wide[..., ::2],
        ps_map.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        torch.testing.assert_close(pool(layout), expected)
        leaf = layout.requires_grad_()
        generator = torch.Generator().manual_seed(1)
        weight = torch.rand(expected.shape, generator=generator)
        (grad,) = torch.autograd.grad((pool(leaf) * weight).sum(), leaf)
        torch.testing.assert_close(grad, expected_grad)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('sampling_ratio', [-1, 2])
def test_half_precision_accumulates_in_float32(
    ps_map, rois, sampling_ratio, dtype
):
    ps_map, args = ps_map.to(dtype), (SIZE, SCALE, sampling_ratio)
    output = ps_roi_align(ps_map, rois.float(), *args)
    assert output.dtype == dtype
    exact = ps_roi_align(ps_map.float(), rois.float(), *args)
    torch.testing.assert_close(output, exact.to(dtype), rtol=0, atol=0)
    grad = gradient(lambda m: ps_roi_align(m, rois.float(), *args), ps_map)
    assert grad.dtype == dtype
    assert grad.isfinite().all()


def test_autocast_keeps_the_values(ps_map, rois):
    ps_map, rois = ps_map.float(), rois.float()
    expected = ps_roi_align(ps_map, rois, SIZE, SCALE, 2)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = ps_roi_align(ps_map, rois, SIZE, SCALE, 2)
        torch.testing.assert_close(output, expected, rtol=0, atol=0)
        output = ps_roi_align(ps_map.bfloat16(), rois, SIZE, SCALE, 2)
    assert output.dtype == torch.bfloat16


def test_compiles_as_one_graph(ps_map, rois):
    def pool(m, boxes):
        return ps_roi_align(m, boxes, SIZE, SCALE, 2)

    compiled = torch.compile(pool, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(compiled(ps_map, rois), pool(ps_map, rois))
    torch.testing.assert_close(
        gradient(lambda m: compiled(m, rois), ps_map),
        gradient(lambda m: pool(m, rois), ps_map),
    )


def test_adaptive_grid_works_under_compile(ps_map, rois):
    def pool(m, boxes):
        return ps_roi_align(m, boxes, SIZE, SCALE)

    compiled = torch.compile(pool, backend='eager')
    torch.testing.assert_close(compiled(ps_map, rois), pool(ps_map, rois))


@pytest.mark.parametrize('sampling_ratio', [-1, 2])
def test_meta_tensors_give_shape_and_dtype(sampling_ratio):
    output = ps_roi_align(
        torch.empty(2, 490, 50, 75, device='meta', dtype=torch.float16),
        torch.empty(300, 5, device='meta'),
        7,
        SCALE,
        sampling_ratio,
    )
    assert output.shape == (300, 10, 7, 7)
    assert (output.device.type, output.dtype) == ('meta', torch.float16)


def test_fake_tensors_give_shapes_forward_and_backward():
    with torch._subclasses.FakeTensorMode():
        ps_map = torch.empty(2, 490, 50, 75, requires_grad=True)
        output = ps_roi_align(ps_map, torch.empty(300, 5), 7, SCALE, 2)
        output.sum().backward()
    assert output.shape == (300, 10, 7, 7)
    assert ps_map.grad.shape == ps_map.shape


def test_export_uses_plain_nodes_with_equal_values(ps_map, rois):
    module = PSRoIAlign(SIZE, SCALE, 2)
    count = torch.export.Dim('count', min=2, max=5000)
    program = torch.export.export(
        module, (ps_map, rois), dynamic_shapes=({}, {0: count})
    )
    for boxes in (rois, rois[:4]):
        torch.testing.assert_close(
            program.module()(ps_map, boxes), module(ps_map, boxes)
        )
    traced = torch.jit.trace(module, (ps_map, rois), check_trace=False)
    torch.testing.assert_close(traced(ps_map, rois), module(ps_map, rois))
    nodes = {node.kind() for node in traced.inlined_graph.nodes()}
    assert 'aten::index' in nodes
    assert all(kind.startswith(('aten', 'prim')) for kind in nodes)
    if hasattr(torch.compiler, 'is_exporting'):
        assert 'mmdet_shufflenetv2.row_sum' not in str(program.graph)


def test_boxes_get_no_gradient(ps_map, rois):
    boxes = rois.requires_grad_()
    ps_roi_align(ps_map.requires_grad_(), boxes, SIZE).sum().backward()
    assert boxes.grad is None


def test_float64_boxes_on_a_float32_map(ps_map, rois):
    torch.testing.assert_close(
        ps_roi_align(ps_map.float(), rois, SIZE, SCALE),
        ps_roi_align(ps_map.float(), rois.float(), SIZE, SCALE),
    )


@pytest.mark.parametrize(
    'change,message',
    [
        ({'input': torch.zeros(2, 13, 9, 11)}, 'multiple of the 6 bins'),
        ({'input': torch.zeros(2, 0, 9, 11)}, 'multiple of the 6 bins'),
        ({'input': torch.zeros(12, 9, 11)}, r'\(N, C, H, W\)'),
        ({'input': torch.zeros(2, 12, 9, 11).long()}, 'floating point'),
        ({'input': torch.zeros(2, 12, 0, 11)}, 'at least one row'),
        ({'boxes': torch.zeros(3, 4)}, r'\(K, 5\).*got \(3, 4\)'),
        ({'boxes': [torch.zeros(3, 5)]}, r'entry 0.*\(L, 4\)'),
        ({'boxes': []}, 'boxes: '),
        ({'boxes': torch.tensor([[2.0, 0, 0, 9, 9]])}, r'\[0, 1\].*got 2'),
        ({'boxes': torch.tensor([[-1.0, 0, 0, 9, 9]])}, 'got -1 in row 0'),
        ({'output_size': 0}, 'output_size: '),
        ({'output_size': (3, 2, 1)}, 'output_size: '),
        ({'output_size': 2.5}, 'output_size: '),
        ({'spatial_scale': 0}, 'spatial_scale: '),
        ({'spatial_scale': float('nan')}, 'spatial_scale: '),
        ({'sampling_ratio': 1.5}, 'sampling_ratio: '),
        ({'mode': 'mean'}, "mode: one of .* got 'mean'"),
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
        ps_roi_align(**arguments)


def test_module_equals_function_and_tells_its_options(ps_map, rois):
    module = PSRoIAlign(SIZE, SCALE, 2, mode='max', aligned=False)
    torch.testing.assert_close(
        module(ps_map, rois),
        ps_roi_align(ps_map, rois, SIZE, SCALE, 2, mode='max', aligned=False),
    )
    assert repr(module) == (
        'PSRoIAlign(output_size=(3, 2), spatial_scale=0.0625, '
        "sampling_ratio=2, mode='max', aligned=False, bin_major=False)"
    )


@pytest.mark.gpu
@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('sampling_ratio', [-1, 2])
def test_gpu_equals_cpu(ps_map, rois, broken, sampling_ratio, mode):
    rois = torch.cat([rois, broken])

    def pool(m):
        args = (rois.to(m), SIZE, SCALE, sampling_ratio)
        return ps_roi_align(m, *args, mode=mode)

    torch.testing.assert_close(pool(ps_map.cuda()).cpu(), pool(ps_map))
    torch.testing.assert_close(
        gradient(pool, ps_map.cuda()).cpu(), gradient(pool, ps_map)
    )


@pytest.mark.gpu
def test_gpu_needs_no_wait(ps_map, rois):
    ps_map, rois = ps_map.cuda().requires_grad_(), rois.cuda()
    ps_roi_align(ps_map, rois, SIZE, SCALE, 2).sum().backward()
    previous = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode('error')
    try:
        ps_roi_align(ps_map, rois, SIZE, SCALE, 2).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode(previous)
