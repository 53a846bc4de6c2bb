"""Figures that were published, to show beside measured ones."""

from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import yaml


@dataclass(frozen=True)
class ClassificationResult:
    """A network's published ImageNet figures; None where there is none.

    Attributes:
        complexity: column of Table 8, such as ``'140M'``; None for Table 6.
        mflops: multiply-adds of one image, in millions.
        params_m: parameters in millions.
        top1_err: top-1 error of a single centre crop, in %.
        gpu_batches_per_s: at batch 8.
        arm_images_per_s: at batch 1, one thread.
        input_size: side of the image.
    """

    complexity: str | None
    mflops: float
    params_m: float | None
    top1_err: float
    gpu_batches_per_s: float | None
    arm_images_per_s: float | None
    input_size: int


@dataclass(frozen=True)
class DetectionResult:
    """A backbone's published figures in Light-Head R-CNN on COCO minival.

    Attributes:
        complexity: column of Table 7, such as ``'140M'``.
        mmap: mean AP over IoU of 0.50 to 0.95, in %.
        images_per_s: of a GPU, at batch 4 and 800x1200.
    """

    complexity: str
    mmap: float
    images_per_s: float


def published_results() -> dict:
    """The whole of ``results.yaml``, whose comments say what is what."""
    return deepcopy(_parsed())


@cache
def _parsed() -> dict:
    text = files(__package__).joinpath('results.yaml').read_text('utf-8')
    return yaml.safe_load(text)


@cache
def detection_results() -> MappingProxyType[str, DetectionResult]:
    """Table 7, by the names of the backbones' networks in Table 8."""
    table = dict(published_results()['table7_coco_lighthead'])
    complexities = table.pop('complexities')
    found = {}
    for row in table.values():
        figures = complexities, row['mmap'], row['images_per_s']
        for name, *values in zip(row['networks'], *figures, strict=True):
            found[name] = DetectionResult(*values)
    return MappingProxyType(found)


@cache
def published_costs() -> MappingProxyType[str, tuple[float, float | None]]:
    """MFLOPs, and millions of parameters if published, of every network."""
    mflops = {
        **{n: result.mflops for n, result in classification_results().items()},
        **published_results()['shufflenet_v1_others'],
    }
    params_m = published_params_m()
    return MappingProxyType({n: (mflops[n], params_m.get(n)) for n in mflops})


@cache
def classification_results() -> MappingProxyType[str, ClassificationResult]:
    """Tables 8 and 6, by the names they have in ``results.yaml``."""
    published = published_results()
    params_m = published_params_m()
    sizes = published['table8_input_sizes']
    found = {}
    for complexity, networks in published['table8_imagenet'].items():
        for name, (mflops, *figures) in networks.items():
            found[name] = ClassificationResult(
                complexity,
                mflops,
                params_m.get(name),
                *figures,
                input_size=sizes.get(name, 224),
            )
    for name, figures in published['table6_large_models'].items():
        found[name] = ClassificationResult(
            complexity=None,
            mflops=1000 * figures['gflops'],
            params_m=params_m.get(name),
            top1_err=figures['top1_err'],
            gpu_batches_per_s=None,
            arm_images_per_s=None,
            input_size=224,
        )
    return MappingProxyType(found)


def published_params_m() -> dict[str, float]:
    """Parameters in millions, by network; some are not in Table 8."""
    found = {}
    for family, widths in published_results()['params_m_published'].items():
        # Table 8 writes the groups behind the width.
        family, _, groups = family.partition('_g')
        for width, params_m in widths.items():
            name = f'{family}_{width}'
            found[f'{name}_g{groups}' if groups else name] = params_m
    return found
