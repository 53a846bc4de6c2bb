"""The detectors' configs in the form that OpenMMLab's ``mim`` reads."""

from pathlib import Path

from mmengine.config import Config

from ..backbones.zoo import network_of
from .docs_tables import cost
from .published import values
from .results import Results, Row

LIGHT_HEAD = (
    'Light-Head R-CNN: In Defense of Two-Stage Object Detector',
    '1711.07264',
)
R_FCN = (
    'R-FCN: Object Detection via Region-based Fully Convolutional Networks',
    '1605.06409',
)
THUNDERNET = (
    'ThunderNet: Towards Real-time Generic Object Detection',
    '1903.11752',
)
SHUFFLENET_V2 = (
    'ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture '
    'Design',
    '1807.11164',
)
# How the paths of a collection's configs begin: its name, architecture, and
# paper.
COLLECTIONS = {
    'configs/lighthead_': (
        'Light-Head R-CNN',
        ['Light-Head R-CNN', 'RPN', 'PSRoIAlign'],
        LIGHT_HEAD,
    ),
    'configs/rfcn_': ('R-FCN', ['R-FCN', 'RPN', 'PSRoIPool'], R_FCN),
    'configs/light/lighthead_': (
        'Light-Head R-CNN on small images',
        ['Light-Head R-CNN', 'RPN', 'PSRoIAlign'],
        LIGHT_HEAD,
    ),
    'configs/light/thundernet_': (
        'ThunderNet',
        ['ThunderNet', 'RPN', 'PSRoIAlign'],
        THUNDERNET,
    ),
    'configs/swap/': (
        "MMDetection's detectors with ShuffleNet V2",
        ['ShuffleNet V2'],
        SHUFFLENET_V2,
    ),
}


def model_index(root: Path, results: Results) -> dict:
    """All detectors that are not the demo's, for ``configs/metafile.yml``.

    What was measured here is a model's results; what others published of
    the same backbone is part of its metadata.

    Args:
        root: of a checkout.
        results: with the trainings.
    """
    bccd = results.table('bccd_backbones')
    runs = [
        *results.table('trained'),
        *({'data': 'BCCD blood cells', **run} for run in bccd),
    ]
    collections, models = [], []
    for start, (name, architecture, (title, arxiv)) in COLLECTIONS.items():
        about = {'Training Data': 'COCO', 'Architecture': architecture}
        paper = {'Title': title, 'URL': f'https://arxiv.org/abs/{arxiv}'}
        collections.append({'Name': name, 'Metadata': about, 'Paper': paper})
        for path in sorted(root.glob(f'{start}*.py')):
            metadata = _metadata(Config.fromfile(path), path.stem)
            models.append(
                {
                    'Name': path.stem,
                    'In Collection': name,
                    'Config': path.relative_to(root).as_posix(),
                    'Metadata': metadata,
                    'Results': [
                        _result(run, metadata['Epochs'])
                        for run in runs
                        if run['config'] == path.stem
                    ],
                }
            )
    return {'Collections': collections, 'Models': models}


def _metadata(cfg: Config, stem: str) -> dict:
    metadata = {'Epochs': cfg.train_cfg.max_epochs}
    if name := network_of(cfg.model.backbone):
        metadata['Backbone MFLOPs'] = round(cost(name).mflops, 1)
    if mmap := values('mmAP').get(stem):
        metadata['Published box AP'] = mmap
    if stem.endswith('_custom'):
        metadata['Training Data'] = 'your own'
    return metadata


def _result(run: Row, epochs: int) -> dict:
    """A run as a result, with its epochs if the config has others."""
    data = run['data']
    if run['epochs'] not in ('', str(epochs)):
        data += f', {run["epochs"]} epochs'
    return {
        'Task': 'Object Detection',
        'Dataset': data,
        'Metrics': {'box AP': round(100 * float(run['mAP']), 1)},
    }
