"""Compute the tables of README and docs and fill them in.

A table stands between ``<!-- table NAME: column, column -->`` and ``<!-- end
-->`` and shows these columns of a computed table or of ``results/NAME.csv``.
"""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from mmengine.config import Config
from torch import nn

from ..backbones.zoo import NETWORKS, build_classifier, network, network_of
from ..errors import UserError
from ..measure.flops import macs
from ..measure.published import Key, figures, speeds, values
from .claims import NOT_MEASURED, claim_rows
from .results import (
    OK,
    Conditions,
    Measured,
    Results,
    Row,
    newest_complete,
    newest_of_machines,
)

BLOCK = re.compile(r'(<!-- table (\w+): ([^>]*) -->\n).*?(<!-- end -->)', re.S)
# Image size and batch of training on BCCD, and the parts measured with them.
BCCD_SETTING = '480x360', '4'
BCCD_SPEEDS = {
    'training images/s': 'training step',
    'inference images/s': 'end to end',
}
# Columns of Figure 2; all other operations are summed up as "other".
WORK = ('convolution', 'element-wise', 'shuffle', 'data movement')
UNEXPLAINED = 'between operations'


def filled(text: str, tables: Mapping[str, Sequence[Row]]) -> str:
    """Return Markdown with all its tables filled in.

    Raises:
        UserError: the text names a table or column that does not exist.
    """

    def fill(match: re.Match) -> str:
        start, name, titles, end = match.groups()
        rows = tables.get(name) or [{}]
        columns = [title.strip() for title in titles.split(',')]
        if absent := [title for title in columns if title not in rows[0]]:
            raise UserError(
                f'table {name} has no column {", ".join(absent)}; it has '
                f'{", ".join(rows[0]) or "no rows"}'
            )
        lines = [columns, ['---'] * len(columns)]
        lines += [
            [row.get(c) or NOT_MEASURED for c in columns] for row in rows
        ]
        table = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
        return start + table + end

    return BLOCK.sub(fill, text)


def docs_tables(root: Path, results: Results) -> dict[str, list[Row]]:
    """All tables by name: the result files and the computed tables."""
    return {
        **results.tables,
        'table7': table7_rows(root, results),
        'bccd': bccd_rows(results),
        'ops': ops_rows(results),
        'deploy': deploy_rows(results),
        'light': light_rows(results),
        'claims': claim_rows(results),
        'figure2': figure2_rows(results),
        'networks': network_rows(),
        'choices': choice_rows(),
    }


def table7_rows(root: Path, results: Results) -> list[Row]:
    """Table 7 by config: published figures, and the mmAP reached here."""
    images_per_s = {key.row: speed.per_s for key, speed in speeds().items()}
    rows = []
    for key, published, here in coco_map(results):
        path = f'configs/{key.row}.py'
        mflops, _ = cost(network_of(config(root / path).model.backbone))
        rows.append(
            {
                'complexity': key.column,
                'config': f'[{key.row}]({path})',
                'backbone MFLOPs': f'{mflops:.1f}',
                'paper: mmAP': f'{published:.1f}',
                'here: mmAP': f'{here:.1f}' if here else '',
                'paper: images/s': f'{images_per_s[key.row]:g}',
            }
        )
    return rows


def coco_map(results: Results) -> list[tuple[Key, float, float | None]]:
    """Table 7's mmAP in %, each with the one reached by training here."""
    here = {
        run['config']: 100 * float(run['mAP'])
        for run in results.table('trained')
        if run['data'].startswith('COCO') and run['mAP']
    }
    return [
        (key, value, here.get(key.row))
        for key, quantity, value, *_ in figures()
        if quantity == 'mmAP'
    ]


def bccd_rows(results: Results) -> list[Row]:
    """Backbones trained on BCCD: accuracy, and speed on one machine."""
    runs = results.table('bccd_backbones')
    chosen = newest_complete(
        [
            each
            for each in results.sound('detectors')
            if (each.row['input'], each.row['batch']) == BCCD_SETTING
        ],
        lambda each: (each.row['config'], each.row['part']),
        {(run['config'], p) for run in runs for p in BCCD_SPEEDS.values()},
    )
    rows = []
    for run in runs:
        name = run['config']
        speeds = {t: chosen.get((name, p)) for t, p in BCCD_SPEEDS.items()}
        places = [each.conditions.place for each in speeds.values() if each]
        rows.append(
            {
                'config': f'[{name}](configs/{name}.py)',
                'mAP': run['mAP'],
                'AP50': run['AP50'],
                **{
                    title: each.row['images_per_s'] if each else ''
                    for title, each in speeds.items()
                },
                'speed measured on': places[0] if places else '',
            }
        )
    return rows


def ops_rows(results: Results) -> list[Row]:
    """The speedup of each op over torchvision's, on each machine.

    Takes contiguous maps like torchvision's; from the slowest to the fastest
    case.
    """
    rows = [
        each
        for each in results.sound('ops')
        if each.conditions.layout == 'contiguous' and all(each.ratio)
    ]
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for each in _cases(rows, 'op', 'passes', 'map', 'rois'):
        where = each.row['op'], each.conditions.place
        passes = {'forward': [], 'forward and backward': []}
        times = found.setdefault(where, passes)[each.row['passes']]
        times.append(float(each.ratio[0]))
    table = []
    for (name, place), passes in sorted(found.items()):
        every = [each for times in passes.values() for each in times]
        slower = sum(each < 1 for each in every)
        table.append(
            {
                'op': f'`{name}`',
                **{title: _span(times) for title, times in passes.items()},
                'slower than torchvision in': f'{slower} of {len(every)} '
                'cases',
                'measured on': place,
            }
        )
    return table


def _span(values: Sequence[float]) -> str:
    ends = (f'{min(values):.2g}', f'{max(values):.2g}') if values else ()
    return ' to '.join(dict.fromkeys(ends))


def deploy_rows(results: Results) -> list[Row]:
    """All cases except the small detectors against other files."""
    rows = []
    for each in _cases(results.sound('deploy'), *DEPLOYED):
        row, notes, against = each.row, [], each.row['against']
        if row['case'] == 'other file':
            continue
        if row['gmac_per_s']:
            rates = row['gmac_per_s'], row['against_gmac_per_s']
            notes.append(f'{" of ".join(rates)} GMAC/s')
            against = f'{against} matrix product'
        if row['ps_roi_share']:
            notes.append(f'PSRoI align is {float(row["ps_roi_share"]):.0%}')
        if row['peak_mb']:
            peaks = row['peak_mb'], row['against_peak_mb']
            notes.append(f'{" against ".join(peaks)} MB')
        cells = {
            'what': f'{row["what"]} {row["input"]}'.strip(),
            'against': against,
            'ms': row['median_ms'],
            'ms of the other': row['against_ms'],
            # Against a matrix product, compare rates instead of times.
            'times as fast': '' if row['gmac_per_s'] else _times_faster(row),
            'notes': ', '.join(notes),
            'measured on': each.conditions.place,
        }
        rows.append({title: text or '-' for title, text in cells.items()})
    return rows


def light_rows(results: Results) -> list[Row]:
    """Small exported detectors in rows, the other files in columns.

    A cell says how many times as fast the detector is.
    """
    table: dict[tuple[str, str], Row] = {}
    for each in _cases(results.sound('deploy'), *DEPLOYED):
        row, place = each.row, each.conditions.place
        if row['case'] == 'other file':
            cells = {
                'detector': f'{row["what"]} {row["input"]}',
                'ms': row['median_ms'],
                'measured on': place,
            }
            found = table.setdefault((row['what'], place), cells)
            found[row['against']] = _times_faster(row)
    return list(table.values())


def _times_faster(row: Row) -> str:
    """Format a ratio; ``~`` marks a warning about the times."""
    if not row['times_faster']:
        return ''
    mark = '~' if row['warning'] else ''
    return f'{mark}{float(row["times_faster"]):.2f}'


# Columns that identify a case of deployment.
DEPLOYED = ('case', 'what', 'against', 'input')


def _cases(rows: Iterable[Measured], *names: str) -> list[Measured]:
    """The newest row of each machine and case, identified by ``names``."""
    chosen = newest_of_machines(rows, lambda m: tuple(m.row[n] for n in names))
    return [each for cases in chosen for each in cases.values()]


def figure2_rows(results: Results) -> list[Row]:
    """Figure 2, where the time goes: a row per network, in one setting."""
    rows = [r for r in results.table('analysis_cpu') if r['status'] == OK]
    rows.sort(key=lambda row: row['date'])

    def setting(row: Row) -> Hashable:
        return Conditions.of(row), row['input'], row['batch']

    def record(row: Row) -> Hashable:
        return setting(row), row['network'], row['pass_ms'], row['commit']

    table = []
    chosen = newest_complete(rows, lambda row: row['network'], group=setting)
    for name, last in chosen.items():
        shares = {
            row['kind']: float(row['share'])
            for row in rows
            if record(row) == record(last)
        }
        work = {kind: shares.pop(kind, 0) for kind in WORK}
        shares.pop(UNEXPLAINED, 0)
        # The rate of multiply-adds, as a share of a matrix product's rate.
        of_peak = float(last['mflops']) / float(last['pass_ms'])
        of_peak /= float(last['peak_gflops_per_s'])
        table.append(
            {
                'network': name,
                'ms': f'{float(last["pass_ms"]):.1f}',
                **{kind: f'{share:.0%}' for kind, share in work.items()},
                'other': f'{sum(shares.values()):.0%}',
                'unexplained': f'{float(last["unexplained_share"]):.0%}',
                'of peak': f'{of_peak:.0%}',
                'warning': last.get('warning') or 'none',
                'measured on': Conditions.of(last).place,
            }
        )
    return table


@cache
def config(path: Path) -> Config:
    """Read a config, or take it from the cache."""
    return Config.fromfile(path)


@cache
def cost(name: str) -> tuple[float, float]:
    """Multiply-adds and parameters of a network of the zoo, in millions.

    They are for one image of the network's size and for 1000 classes.
    """
    side = network(name).input_size
    with torch.device('meta'):
        model = build_classifier(name).eval()
        image = torch.empty(1, 3, side, side)
    params = sum(p.numel() for p in model.parameters())
    for layer in model.modules():
        # Batch norms count as 0, but would take half of the counting time.
        if isinstance(layer, nn.BatchNorm2d):
            layer.forward = lambda x: x
    return macs(model, image) / 1e6, params / 1e6


def network_rows(names: Iterable[str] = NETWORKS) -> list[Row]:
    """Multiply-adds and parameters of each network, published and computed."""
    notes = {row['what was chosen']: row['note'] for row in choice_rows()}
    rows = []
    for name in names:
        row = {'network': name, 'image': str(network(name).input_size)}
        for unit, quantity, digits, here in zip(
            ('MFLOPs', 'M params'),
            ('multiply-adds', 'parameters'),
            (0, 1),
            cost(name),
            strict=True,
        ):
            text, difference = 'not published', '-'
            if published := values(quantity).get(name):
                text = f'{published:.{digits}f}'
                # Adding zero makes a rounded -0.0 positive.
                percent = round(100 * (here / published - 1), 1) + 0
                difference = f'{percent:+.1f} %'
            row[f'{unit} published'] = text
            row[f'{unit} here'] = f'{here:.{digits + 1}f}'
            row[f'{unit} off by'] = difference
        rows.append({**row, 'note': notes.get(network(name).choice, '-')})
    return rows


def choice_rows() -> list[Row]:
    """Choices made here where publications are silent, each listed once."""
    networks: dict[str, list[str]] = {}
    for name, about in NETWORKS.items():
        if about.choice:
            networks.setdefault(about.choice, []).append(name)
    return [
        {
            'note': str(number),
            'networks': ', '.join(names),
            'what was chosen': choice,
        }
        for number, (choice, names) in enumerate(networks.items(), start=1)
    ]
