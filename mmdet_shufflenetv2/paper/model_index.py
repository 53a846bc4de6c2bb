"""The detectors' configs in the form that OpenMMLab's ``mim`` reads."""

from pathlib import Path

from mmengine.config import Config

from ..backbones.zoo import network_of
from .detectors import COCO, runs_by_config, table7_configs
from .networks import Row, cost
from .published import detection_results

# The collection that a config belongs to, by how its path begins.
COLLECTIONS = {
    'configs/lighthead_': {
        'Name': 'Light-Head R-CNN',
        'Metadata': {
            'Training Data': COCO,
            'Architecture': ['Light-Head R-CNN', 'RPN', 'PSRoIAlign'],
        },
        'Paper': {
            'Title': 'Light-Head R-CNN: In Defense of Two-Stage Object '
            'Detector',
            'URL': 'https://arxiv.org/abs/1711.07264',
        },
    },
    'configs/rfcn_': {
        'Name': 'R-FCN',
        'Metadata': {
            'Training Data': COCO,
            'Architecture': ['R-FCN', 'RPN', 'PSRoIPool'],
        },
        'Paper': {
            'Title': 'R-FCN: Object Detection via Region-based Fully '
            'Convolutional Networks',
            'URL': 'https://arxiv.org/abs/1605.06409',
        },
    },
    'configs/swap/': {
        'Name': "MMDetection's detectors with ShuffleNet V2",
        'Metadata': {
            'Training Data': COCO,
            'Architecture': ['ShuffleNet V2'],
        },
        'Paper': {
            'Title': 'ShuffleNet V2: Practical Guidelines for Efficient CNN '
            'Architecture Design',
            'URL': 'https://arxiv.org/abs/1807.11164',
        },
    },
}


def model_index(root: Path, results: Path) -> dict:
    """All detectors that are not the demo's, for ``configs/metafile.yml``.

    What was measured here is a model's results; what others published of
    the same backbone is part of its metadata.

    Args:
        root: of a checkout.
        results: folder of the results.
    """
    runs = runs_by_config(results)
    of_table7 = {path: name for name, path in table7_configs(root).items()}
    models = []
    for start, collection in COLLECTIONS.items():
        for path in sorted(root.glob(f'{start}*.py')):
            metadata = _metadata(Config.fromfile(path), of_table7.get(path))
            if path.stem.endswith('_custom'):
                metadata['Training Data'] = 'your own'
            models.append(
                {
                    'Name': path.stem,
                    'In Collection': collection['Name'],
                    'Config': path.relative_to(root).as_posix(),
                    'Metadata': metadata,
                    'Results': [
                        _result(run, metadata['Epochs'])
                        for run in runs[path.stem]
                    ],
                }
            )
    return {'Collections': list(COLLECTIONS.values()), 'Models': models}


def _metadata(cfg: Config, in_table7: str | None) -> dict:
    metadata = {'Epochs': cfg.train_cfg.max_epochs}
    name = network_of(cfg.model.backbone)
    if name:
        metadata['Backbone MFLOPs'] = round(cost(name).mflops, 1)
    if in_table7:
        paper = detection_results()[in_table7]
        metadata['Published box AP'] = paper.mmap
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
