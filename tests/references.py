"""Slow loop implementations, straight from the definitions.

They share no code with the package and are for tests only. Boxes are
``(K, 5)``; a RoI without a size or with a value that is not finite is zeros.
"""

import math

import torch


def _legal(roi) -> bool:
    return (
        all(math.isfinite(v) for v in roi)
        and roi[3] > roi[1]
        and roi[4] > roi[2]
    )


def _bilinear(plane, y, x):
    """One sample of ``(H, W)``; 0 more than a cell outside."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return plane.new_zeros(())
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = plane[top, left] * (1 - dx) + plane[top, right] * dx
    lower = plane[bottom, left] * (1 - dx) + plane[bottom, right] * dx
    return upper * (1 - dy) + lower * dy


def ps_roi_align(
    input,
    boxes,
    output_size,
    spatial_scale=1.0,
    sampling_ratio=-1,
    *,
    mode='avg',
    aligned=True,
):
    ph, pw = output_size
    channels = input.size(1) // (ph * pw)
    output = input.new_zeros(len(boxes), channels, ph, pw)
    for k, roi in enumerate(boxes.tolist()):
        if not _legal(roi):
            continue
        shift = 0.5 if aligned else 0.0
        x1, y1, x2, y2 = (v * spatial_scale - shift for v in roi[1:])
        bin_h, bin_w = (y2 - y1) / ph, (x2 - x1) / pw
        grid_h = sampling_ratio if sampling_ratio > 0 else math.ceil(bin_h)
        grid_w = sampling_ratio if sampling_ratio > 0 else math.ceil(bin_w)
        for c in range(channels):
            for i in range(ph):
                for j in range(pw):
                    channel = (c * ph + i) * pw + j
                    samples = [
                        _bilinear(
                            input[int(roi[0]), channel],
                            y1 + (i + (a + 0.5) / grid_h) * bin_h,
                            x1 + (j + (b + 0.5) / grid_w) * bin_w,
                        )
                        for a in range(grid_h)
                        for b in range(grid_w)
                    ]
                    samples = torch.stack(samples)
                    output[k, c, i, j] = (
                        samples.max() if mode == 'max' else samples.mean()
                    )
    return output


def _round_half_away(value):
    return math.copysign(math.floor(abs(value) + 0.5), value)


def ps_roi_pool(input, boxes, output_size, spatial_scale=1.0):
    """Exact fractions decide the cells, where the real ops use floats."""
    ph, pw = output_size
    channels = input.size(1) // (ph * pw)
    height, width = input.shape[2:]
    output = input.new_zeros(len(boxes), channels, ph, pw)
    for k, roi in enumerate(boxes.tolist()):
        if not _legal(roi):
            continue
        x1, y1, x2, y2 = (
            int(_round_half_away(v * spatial_scale)) for v in roi[1:]
        )
        size_h, size_w = max(y2 - y1, 1), max(x2 - x1, 1)
        for c in range(channels):
            for i in range(ph):
                for j in range(pw):
                    top = min(max(y1 + i * size_h // ph, 0), height)
                    left = min(max(x1 + j * size_w // pw, 0), width)
                    bottom = y1 - (-(i + 1) * size_h // ph)
                    right = x1 - (-(j + 1) * size_w // pw)
                    bottom = min(max(bottom, 0), height)
                    right = min(max(right, 0), width)
                    if bottom <= top or right <= left:
                        continue
                    channel = (c * ph + i) * pw + j
                    cells = input[int(roi[0]), channel, top:bottom, left:right]
                    output[k, c, i, j] = cells.mean()
    return output
