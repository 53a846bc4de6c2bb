"""The index of detector configs that OpenMMLab's ``mim`` reads."""

from importlib.resources import files
from pathlib import Path

import yaml
from mmengine.config import Config

from ..backbones.zoo import network_of
from ..measure.published import values
from .docs_tables import config, cost
from .results import Results, Row


def model_index(root: Path, results: Results) -> dict:
    """Return the content of ``configs/metafile.yml``: all but demo configs.

    Results are measured here. Figures that others published for the same
    config are part of a model's metadata.
    """
    bccd = results.table('bccd_backbones')
    runs = [
        *results.table('trained'),
        *({'data': 'BCCD blood cells', **run} for run in bccd),
    ]
    text = files(__package__).joinpath('collections.yaml').read_text('utf-8')
    collections, models = yaml.safe_load(text), []
    for start, collection in collections.items():
        for path in sorted(root.glob(f'{start}*.py')):
            metadata = _metadata(config(path), path.stem)
            models.append(
                {
                    'Name': path.stem,
                    'In Collection': collection['Name'],
                    'Config': path.relative_to(root).as_posix(),
                    'Metadata': metadata,
                    'Results': [
                        _result(run, metadata['Epochs'])
                        for run in runs
                        if run['config'] == path.stem and run['mAP']
                    ],
                }
            )
    return {'Collections': [*collections.values()], 'Models': models}


def _metadata(cfg: Config, stem: str) -> dict:
    metadata = {'Epochs': cfg.train_cfg.max_epochs}
    if name := network_of(cfg.model.backbone):
        metadata['Backbone MFLOPs'] = round(cost(name)[0], 1)
    if mmap := values('mmAP').get(stem):
        metadata['Published box AP'] = mmap
    if stem.endswith('_custom'):
        metadata['Training Data'] = 'your own'
    return metadata


def _result(run: Row, epochs: int) -> dict:
    """A run as a result; names its epochs if they differ from the config."""
    data = run['data']
    if run['epochs'] not in ('', str(epochs)):
        data += f', {run["epochs"]} epochs'
    return {
        'Task': 'Object Detection',
        'Dataset': data,
        'Metrics': {'box AP': round(100 * float(run['mAP']), 1)},
    }
