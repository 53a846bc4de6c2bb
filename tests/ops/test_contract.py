"""Both ops, in every mode, against loops and torchvision."""

import itertools
import sys

import pytest
import references
import torch
import torchvision

from mmdet_shufflenetv2.ops import ps_roi_align, ps_roi_pool, row_sum

SIZE, SCALE = (3, 2), 1 / 16
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
LAYOUTS = itertools.product((True, False), (-1, 1, 3), ('avg', 'max'))
ALIGN = [
    dict(sampling_ratio=ratio, mode=mode, aligned=aligned)
    for aligned, ratio, mode in LAYOUTS
]
#: Both ops, with all options that take different code paths.
KINDS = {
    'align': (ps_roi_align, dict(sampling_ratio=2)),
    'align max': (ps_roi_align, dict(sampling_ratio=2, mode='max')),
    'adaptive align': (ps_roi_align, {}),
    'adaptive align max': (ps_roi_align, dict(mode='max')),
    'pool by cells': (ps_roi_pool, {}),
    'pool by integral image': (ps_roi_pool, {}),
}
ONE_GRAPH = ['align', 'align max', 'pool by cells']


@pytest.fixture
def pool(request, monkeypatch):
    """One kind, as a function of map, RoIs and further options."""
    op, options = KINDS[request.param]
    if request.param.startswith('pool'):
        # Eager CPU tensors would sum cells instead.
        known = request.param == 'pool by cells'
        module = sys.modules[ps_roi_pool.__module__]
        if not known:
            monkeypatch.setattr(module, 'is_eager_cpu', lambda _: False)

    def run(ps_map, rois, size=SIZE, scale=SCALE, **more):
        return op(ps_map, rois, size, scale, **options, **more)

    return run


every_kind = pytest.mark.parametrize('pool', KINDS, indirect=True)


def gradient(function, ps_map):
    leaf = ps_map.detach().clone().requires_grad_()
    output = function(leaf)
    generator = torch.Generator().manual_seed(1)
    weight = torch.rand(output.shape, generator=generator).to(output)
    (grad,) = torch.autograd.grad((output * weight).sum(), leaf)
    return grad


def assert_same(function, expected, ps_map, atol=1e-12):
    for run in (lambda f: f(ps_map), lambda f: gradient(f, ps_map)):
        torch.testing.assert_close(
            run(function), run(expected), rtol=0, atol=atol
        )


@pytest.mark.parametrize('options', ALIGN, ids=str)
def test_align_equals_loops(ps_map, rois, options):
    args = rois, SIZE, SCALE
    assert_same(
        lambda m: ps_roi_align(m, *args, **options),
        lambda m: references.ps_roi_align(m, *args, **options),
        ps_map,
    )


@pytest.mark.parametrize('pool', list(KINDS)[-2:], indirect=True)
def test_pool_equals_loops(pool, ps_map, rois):
    assert_same(
        lambda m: pool(m, rois),
        lambda m: references.ps_roi_pool(m, rois, SIZE, SCALE),
        ps_map,
    )
    assert pool(ps_map, rois).is_contiguous()


@pytest.mark.parametrize('sampling_ratio', [-1, 0, 2])
def test_align_equals_torchvision(ps_map, rois, sampling_ratio):
    args = (rois, SIZE, SCALE, sampling_ratio)
    assert_same(
        lambda m: ps_roi_align(m, *args),
        lambda m: torchvision.ops.ps_roi_align(m, *args),
        ps_map,
    )


def many(dtype, count=300):
    """A map of 3 images and random RoIs, some over its borders."""
    generator = torch.Generator().manual_seed(2)
    ps_map = torch.randn(3, 98, 20, 28, generator=generator, dtype=dtype)
    rois = torch.rand(count, 5, generator=generator, dtype=dtype) * 300 - 30
    rois[:, 0] = torch.randint(3, (count,), generator=generator)
    rois[:, 3:] = rois[:, 1:3] + rois[:, 3:].abs().clamp(min=1)
    return ps_map, rois


@pytest.mark.parametrize('pool', list(KINDS)[-2:], indirect=True)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_pool_equals_torchvision_except_in_last_row_and_column(pool, dtype):
    ps_map, rois = many(dtype)
    inner = (rois[:, 3] < 27 * 16 - 8) & (rois[:, 4] < 19 * 16 - 8)
    assert 50 < int(inner.sum()) < 250
    output = pool(ps_map, rois, 7)
    expected = torchvision.ops.ps_roi_pool(ps_map, rois, 7, SCALE)
    close = dict(rtol=0, atol=TOLERANCE[dtype])
    torch.testing.assert_close(output[inner], expected[inner], **close)
    assert not torch.allclose(output[~inner], expected[~inner], atol=1e-3)
    # torchvision's backward does include the last row and column.
    torch.testing.assert_close(
        gradient(lambda m: pool(m, rois, 7), ps_map),
        gradient(
            lambda m: torchvision.ops.ps_roi_pool(m, rois, 7, SCALE), ps_map
        ),
        **close,
    )


@pytest.mark.parametrize('pool', list(KINDS)[-2:], indirect=True)
def test_small_bins_keep_their_precision_on_a_large_offset(pool):
    # Sums over the map are 1e7 times a bin, too much for float32.
    generator = torch.Generator().manual_seed(3)
    ps_map = torch.randn(1, 4, 100, 100, generator=generator) + 1000
    rois = torch.tensor([[0.0, 95, 95, 99, 99]])
    expected = references.ps_roi_pool(ps_map.double(), rois, (2, 2))
    torch.testing.assert_close(
        pool(ps_map, rois, 2, 1.0), expected.float(), rtol=3e-7, atol=0
    )


@every_kind
def test_gradcheck(pool, ps_map, rois):
    leaf = ps_map[:, :6, :4, :5].contiguous().requires_grad_()

    def run(m):
        return pool(m, rois, scale=0.03)

    options = dict(fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradcheck(run, leaf, **options)


@every_kind
def test_broken_rois_give_zeros_and_no_gradient(pool, ps_map, rois, broken):
    ps_map, rois, broken = (x.float() for x in (ps_map, rois, broken))
    output = pool(ps_map, torch.cat([broken, rois]))
    assert (output[: len(broken)] == 0).all()
    torch.testing.assert_close(output[len(broken) :], pool(ps_map, rois))
    assert (gradient(lambda m: pool(m, broken), ps_map) == 0).all()


def test_roi_far_larger_than_the_map_needs_no_more_memory(ps_map):
    # All samples would be 1e7 per bin and side.
    rois = torch.tensor([[0, -1e8, -1e8, 1e8, 1e8]], dtype=torch.float64)
    assert ps_roi_align(ps_map, rois, SIZE, SCALE).isfinite().all()


@every_kind
def test_no_rois_and_no_images(pool, ps_map):
    leaf = ps_map.requires_grad_()
    output = pool(leaf, ps_map.new_zeros(0, 5))
    assert output.shape == (0, 2, 3, 2)
    output.sum().backward()
    assert (leaf.grad == 0).all()
    empty = torch.zeros(0, 12, 9, 11), torch.zeros(0, 5)
    assert pool(*empty).shape == (0, 2, 3, 2)


@every_kind
@pytest.mark.parametrize('images, radix', [(1, 0), (2, 0), (2, 2**30)])
def test_memory_layout_does_not_matter(
    pool, ps_map, rois, images, radix, monkeypatch
):
    ps_map, rois = ps_map[:images], rois[rois[:, 0] < images]
    weight = torch.rand(len(rois), 2, *SIZE, dtype=ps_map.dtype)

    def run(m):
        leaf = m.detach().requires_grad_()
        output = pool(leaf, rois)
        return output, *torch.autograd.grad((output * weight).sum(), leaf)

    expected = run(ps_map.clone())
    # Decides whether the rows of all images are sorted together.
    monkeypatch.setattr(row_sum, 'RADIX_SORTED', radix)
    wide = torch.zeros(images, 12, 9, 22, dtype=ps_map.dtype)
    wide[..., ::2] = ps_map
    for layout in (
        ps_map.contiguous(memory_format=torch.channels_last),
        wide[..., ::2],
        ps_map.mT.contiguous().mT,
    ):
        torch.testing.assert_close(run(layout), expected)


@pytest.mark.parametrize('pool', ONE_GRAPH, indirect=True)
def test_gradient_has_the_layout_of_its_map(pool, ps_map, rois):
    last = ps_map.contiguous(memory_format=torch.channels_last)
    grad = gradient(lambda m: pool(m, rois), last)
    assert grad.is_contiguous(memory_format=torch.channels_last)


def test_row_sums_pass_the_checks_of_custom_operators():
    table = torch.randn(2, 3, 4, 5, requires_grad=True)
    index = torch.tensor([11, 0, 4, 4, 7])
    bags = index, torch.randn(5), torch.tensor([0, 2, 2, 3, 5])
    ops = torch.ops.mmdet_shufflenetv2
    torch.library.opcheck(ops.row_sum.default, (table, *bags))
    layout = list(table.shape), [3, 0, 1, 2]
    torch.library.opcheck(
        ops.row_sum_backward.default, (torch.randn(2, 2, 5), *bags, *layout)
    )


@every_kind
def test_half_precision_accumulates_in_float32(pool, ps_map, rois):
    dtype = torch.float16
    ps_map, rois = ps_map.to(dtype), rois.float()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = pool(ps_map, rois)
    exact = pool(ps_map.float(), rois)
    torch.testing.assert_close(output, exact.to(dtype), rtol=0, atol=0)
    grad = gradient(lambda m: pool(m, rois), ps_map)
    assert grad.dtype == dtype
    assert grad.isfinite().all()


@pytest.mark.parametrize('pool', ONE_GRAPH, indirect=True)
def test_compiles_as_one_graph(pool, ps_map, rois):
    compiled = torch.compile(pool, backend='aot_eager', fullgraph=True)
    assert_same(lambda m: compiled(m, rois), lambda m: pool(m, rois), ps_map)


@every_kind
def test_meta_tensors_give_shape_and_dtype(pool):
    ps_map = torch.empty(2, 490, 5, 7, device='meta', dtype=torch.float16)
    output = pool(ps_map, torch.empty(300, 5, device='meta'), 7)
    assert output.shape == (300, 10, 7, 7)
    assert (output.device.type, output.dtype) == ('meta', torch.float16)


@pytest.mark.parametrize(
    'change,message',
    [
        ({'input': torch.zeros(2, 13, 9, 11)}, 'multiple of 6 channels'),
        ({'input': torch.zeros(2, 12, 0, 11)}, 'at least one cell'),
        ({'boxes': torch.zeros(3, 4)}, r'\(K, 5\).*got .*\(3, 4\)'),
        ({'boxes': torch.tensor([[2.0, 0, 0, 9, 9]])}, r'\[0, 1\].*got 2'),
        ({'spatial_scale': float('nan')}, 'spatial_scale: '),
    ],
)
def test_wrong_argument_is_named(change, message):
    arguments = dict(
        input=torch.zeros(2, 12, 9, 11),
        boxes=torch.zeros(3, 5),
        output_size=SIZE,
    )
    for op in ps_roi_align, ps_roi_pool:
        with pytest.raises(ValueError, match=message):
            op(**arguments | change)


@pytest.mark.gpu
@every_kind
def test_gpu_equals_cpu(pool, ps_map, rois, broken):
    rois = torch.cat([rois, broken])

    def run(m):
        return pool(m, rois.to(m))

    torch.testing.assert_close(run(ps_map.cuda()).cpu(), run(ps_map))
    torch.testing.assert_close(
        gradient(run, ps_map.cuda()).cpu(), gradient(run, ps_map)
    )
