"""Configs of detectors, and Table 7 of arXiv 1807.11164 by them."""

import csv
from collections import defaultdict
from pathlib import Path

from mmengine.config import Config

from ..backbones.zoo import network_of
from .networks import Row, cost
from .published import detection_results

# How `trained.csv` begins to call COCO's data; mAP there is a fraction.
COCO = 'COCO'
# What `trained.csv` calls the data of `bccd_backbones.csv`.
BCCD = 'BCCD blood cells'
# Image and batch that training on BCCD has, and what is measured of them.
BCCD_INPUT = '480x360', '4'
BCCD_SPEEDS = {
    'training images/s': 'training step',
    'inference images/s': 'end to end',
}


def table7_configs(root: Path) -> dict[str, Path]:
    """The config with Table 7's recipe of each backbone, by network.

    Args:
        root: of a checkout.
    """
    found = {}
    for path in sorted(root.glob('configs/lighthead_*.py')):
        name = network_of(Config.fromfile(path).model.backbone)
        if name in detection_results():
            # A variation of a recipe has a longer name, and comes later.
            found.setdefault(name, path)
    return found


def runs_by_config(results: Path) -> dict[str, list[Row]]:
    """What was trained, by the name of its config.

    Args:
        results: folder of the results.

    Returns:
        The rows of ``trained.csv``, then those of ``bccd_backbones.csv``
        with the data that the file's name says.
    """
    runs = defaultdict(list)
    for run in _rows(results / 'trained.csv'):
        runs[run['config']].append(run)
    for run in _rows(results / 'bccd_backbones.csv'):
        runs[run['config']].append({'data': BCCD, **run})
    return runs


def table7_rows(root: Path, results: Path) -> list[Row]:
    """A row per backbone of Table 7, by complexity.

    Args:
        root: of a checkout.
        results: folder of the results.
    """
    configs, runs = table7_configs(root), runs_by_config(results)
    rows = []
    for name, paper in detection_results().items():
        stem = configs[name].stem
        rows.append(
            {
                'complexity': paper.complexity,
                'config': f'[{stem}](configs/{stem}.py)',
                'backbone MFLOPs': f'{cost(name).mflops:.1f}',
                'paper: mmAP': str(paper.mmap),
                'here: mmAP': _mmap_on_coco(runs[stem]),
                'paper: images/s': str(paper.images_per_s),
            }
        )
    # The sort is stable: one column of Table 7 after the other.
    return sorted(rows, key=lambda row: int(row['complexity'].rstrip('M')))


def bccd_rows(results: Path) -> list[Row]:
    """A row per backbone trained on BCCD: how good, and how fast.

    Args:
        results: folder of the results; ``bccd_backbones.csv`` has the runs,
            ``detectors_cpu.csv`` the speeds, of which the last one counts.
    """
    speeds = {
        (row['config'], row['part']): row['images_per_s']
        for row in _rows(results / 'detectors_cpu.csv')
        if (row['input'], row['batch'], row['status']) == (*BCCD_INPUT, 'ok')
    }
    return [
        {
            'config': f'[{run["config"]}](configs/{run["config"]}.py)',
            'mAP': run['mAP'],
            'AP50': run['AP50'],
            **{
                column: speeds.get((run['config'], part), '')
                for column, part in BCCD_SPEEDS.items()
            },
        }
        for run in _rows(results / 'bccd_backbones.csv')
    ]


def _rows(path: Path) -> list[Row]:
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def _mmap_on_coco(runs: list[Row]) -> str:
    """In %, of the last run there was; empty if there was none."""
    found = [run['mAP'] for run in runs if run['data'].startswith(COCO)]
    return f'{100 * float(found[-1]):.1f}' if found else ''
