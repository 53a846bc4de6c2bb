"""Position-sensitive RoI pooling, in plain PyTorch."""

from .ps_roi_align import PSRoIAlign, ps_roi_align
from .ps_roi_pool import PSRoIPool, ps_roi_pool

__all__ = ['PSRoIAlign', 'PSRoIPool', 'ps_roi_align', 'ps_roi_pool']
