"""The ops in TorchScript, as operators that a script calls by name.

A script of them runs in Python, saved and loaded too, wherever this package
is imported; that is what torchvision's ask for as well. TorchScript has no
arguments by keyword alone, so there these are positional.
"""

import torch
from torch import Tensor
from torch._jit_internal import BroadcastingList2

from .ps_roi_align import ps_roi_align
from .ps_roi_pool import ps_roi_pool

_LIBRARY = torch.library.Library('mmdet_shufflenetv2', 'FRAGMENT')
_FIRST = 'Tensor input, Tensor boxes, int[] output_size, float spatial_scale'


def _align(input, boxes, size, scale, ratio, mode, aligned, bin_major):
    options = dict(mode=mode, aligned=aligned, bin_major=bin_major)
    return ps_roi_align(input, boxes, tuple(size), scale, ratio, **options)


def _pool(input, boxes, size, scale, bin_major):
    return ps_roi_pool(input, boxes, tuple(size), scale, bin_major=bin_major)


for _name, _more, _function in (
    ('ps_roi_align', 'int ratio, str mode, bool aligned, ', _align),
    ('ps_roi_pool', '', _pool),
):
    _LIBRARY.define(f'{_name}({_FIRST}, {_more}bool bin_major) -> Tensor')
    # Composite: its parts differentiate themselves.
    _LIBRARY.impl(_name, _function, 'CompositeImplicitAutograd')


def _to_rois(boxes: Tensor | list[Tensor]) -> Tensor:
    if isinstance(boxes, Tensor):
        return boxes
    rows: list[Tensor] = []
    for i, box in enumerate(boxes):
        rows.append(torch.cat([torch.full_like(box[:, :1], i), box], dim=1))
    return torch.cat(rows)


def _scripted_align(
    input: Tensor,
    boxes: Tensor | list[Tensor],
    output_size: BroadcastingList2[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    mode: str = 'avg',
    aligned: bool = True,
    bin_major: bool = False,
) -> Tensor:
    rois = _to_rois(boxes)
    return torch.ops.mmdet_shufflenetv2.ps_roi_align(
        input,
        rois,
        output_size,
        spatial_scale,
        sampling_ratio,
        mode,
        aligned,
        bin_major,
    )


def _scripted_pool(
    input: Tensor,
    boxes: Tensor | list[Tensor],
    output_size: BroadcastingList2[int],
    spatial_scale: float = 1.0,
    bin_major: bool = False,
) -> Tensor:
    rois = _to_rois(boxes)
    return torch.ops.mmdet_shufflenetv2.ps_roi_pool(
        input, rois, output_size, spatial_scale, bin_major
    )


# torch.jit.script asks a function for what to compile in its place.
ps_roi_align.__prepare_scriptable__ = lambda: _scripted_align
ps_roi_pool.__prepare_scriptable__ = lambda: _scripted_pool
