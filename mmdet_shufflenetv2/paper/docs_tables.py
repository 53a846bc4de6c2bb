"""The tables of README and docs that are computed, and how they are filled in.

A table stands between ``<!-- table NAME: column, column -->`` and ``<!-- end
-->`` and shows those columns of a computed table or of ``results/NAME.csv``.
"""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from torch import nn

from ..backbones.zoo import NETWORKS, build_classifier, network, network_of
from ..errors import UserError
from ..measure.flops import macs
from .claims import NOT_MEASURED, claim_rows
from .published import Key, figures, speeds, values
from .results import (
    OK,
    Measured,
    Results,
    Row,
    conditions_of,
    newest_complete,
    newest_of_machines,
    warning_of,
)

BLOCK = re.compile(r'(<!-- table (\w+): ([^>]*) -->\n).*?(<!-- end -->)', re.S)
# Image and batch that training on BCCD has, and what is measured of them.
BCCD_SETTING = '480x360', '4'
BCCD_SPEEDS = {
    'training images/s': 'training step',
    'inference images/s': 'end to end',
}
# Columns of Figure 2; whatever else a network does is "other".
WORK = ('convolution', 'element-wise', 'shuffle', 'data movement')
UNEXPLAINED = 'between operations'


def filled(text: str, tables: Mapping[str, Sequence[Row]]) -> str:
    """Markdown with every table of it written anew.

    Raises:
        UserError: the text names a table or a column that there is not.
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
    """All tables by name: the files of results, and what is computed."""
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
    """Table 7 by config: published figures, and mmAP that was reached here."""
    images_per_s = {
        key.row: speed.per_s
        for key, speed in speeds().items()
        if key.table == 'Table 7'
    }
    rows = []
    for key, published, here in coco_map(results):
        path = f'configs/{key.row}.py'
        backbone = network_of(config(root / path).model.backbone)
        rows.append(
            {
                'complexity': key.column,
                'config': f'[{key.row}]({path})',
                'backbone MFLOPs': f'{cost(backbone).mflops:.1f}',
                'paper: mmAP': f'{published:.1f}',
                'here: mmAP': f'{here:.1f}' if here else '',
                'paper: images/s': f'{images_per_s[key.row]:g}',
            }
        )
    return rows


def coco_map(results: Results) -> list[tuple[Key, float, float | None]]:
    """Table 7's mmAP, in %, and what was reached by training here."""
    here = {
        run['config']: 100 * float(run['mAP'])
        for run in results.table('trained')
        if run['data'].startswith('COCO') and run['mAP']
    }
    return [
        (each.key, each.value, here.get(each.key.row))
        for each in figures()
        if each.quantity == 'mmAP'
    ]


def bccd_rows(results: Results) -> list[Row]:
    """Backbones trained on BCCD: how good, and how fast on one machine."""
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
        row = {
            'config': f'[{name}](configs/{name}.py)',
            'mAP': run['mAP'],
            'AP50': run['AP50'],
            **dict.fromkeys((*BCCD_SPEEDS, 'speed measured on'), ''),
        }
        for title, part in BCCD_SPEEDS.items():
            if each := chosen.get((name, part)):
                row[title] = each.row['images_per_s']
                row['speed measured on'] = each.conditions.place
        rows.append(row)
    return rows


def ops_rows(results: Results) -> list[Row]:
    """How many times as fast as torchvision an op is, on each machine.

    On maps of torchvision's own order, from its slowest case to its fastest.
    """
    rows = [
        each
        for each in results.sound('ops')
        if each.row['map_layout'] == 'as torchvision' and all(each.ratio)
    ]
    found: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for each in _cases(rows, 'op', 'passes', 'map', 'rois'):
        times = found.setdefault((each.row['op'], each.conditions.place), [])
        times.append((each.row['passes'], float(each.ratio[0])))
    table = []
    for (name, place), times in sorted(found.items()):
        row = dict.fromkeys(('op', 'forward', 'forward and backward'), '')
        row['op'] = f'`{name}`'
        for passes in {passes for passes, _ in times}:
            ends = sorted(each for p, each in times if p == passes)
            text = f'{ends[0]:.2g}', f'{ends[-1]:.2g}'
            row[passes] = ' to '.join(dict.fromkeys(text))
        slower = sum(each < 1 for _, each in times)
        row['slower than torchvision in'] = f'{slower} of {len(times)} cases'
        table.append({**row, 'measured on': place})
    return table


def deploy_rows(results: Results) -> list[Row]:
    """All cases but the small detectors' beside other files."""
    cases = _deploy_cases(results)
    return [_deploy_row(m) for m in cases if m.row['case'] != 'other file']


def light_rows(results: Results) -> list[Row]:
    """A small exported detector in each row, another's file in each column.

    A cell says how many times as fast the detector is, a ``~`` that times
    or their ratio spread.
    """
    table: dict[tuple[str, str], Row] = {}
    for each in _deploy_cases(results):
        row = each.row
        if row['case'] == 'other file':
            found = table.setdefault(
                (row['what'], each.conditions.place),
                {
                    'detector': f'{row["what"]} {row["input"]}',
                    'ms': row['median_ms'],
                    'measured on': each.conditions.place,
                },
            )
            mark = '~' if row['warning'] else ''
            found[row['against']] = f'{mark}{float(row["times_faster"]):.2f}'
    return list(table.values())


def _deploy_cases(results: Results) -> list[Measured]:
    names = 'case', 'what', 'against', 'input'
    return _cases(results.sound('deploy'), *names)


def _cases(rows: Iterable[Measured], *names: str) -> list[Measured]:
    """The newest of each machine; of a case, these columns are the same."""
    chosen = newest_of_machines(rows, lambda m: tuple(m.row[n] for n in names))
    return [each for cases in chosen for each in cases.values()]


def _deploy_row(each: Measured) -> Row:
    row, extra = each.row, []
    if row['gmac_per_s']:
        rates = row['gmac_per_s'], row['against_gmac_per_s']
        extra.append(f'{" of ".join(rates)} GMAC/s')
    if row['ps_roi_share']:
        extra.append(f'PSRoI align is {float(row["ps_roi_share"]):.0%}')
    if row['peak_mb']:
        extra.append(f'{row["peak_mb"]} against {row["against_peak_mb"]} MB')
    # Of a matrix product the rates are compared.
    times = '' if row['gmac_per_s'] else row['times_faster']
    return {
        'what': f'{row["what"]} {row["input"]}'.strip(),
        'against': row['against'] or '-',
        'ms': row['median_ms'],
        'ms of the other': row['against_ms'] or '-',
        'times as fast': times or '-',
        'besides': ', '.join(extra) or '-',
        'measured on': each.conditions.place,
    }


def figure2_rows(results: Results) -> list[Row]:
    """Figure 2, where the time goes: a row for each network of one setting."""
    rows = [r for r in results.table('analysis_cpu') if r['status'] == OK]
    rows.sort(key=lambda row: row['date'])

    def setting(row: Row) -> Hashable:
        return conditions_of(row), row['input'], row['batch']

    def record(row: Row) -> Hashable:
        return setting(row), row['network'], row['pass_ms'], row['commit']

    chosen = newest_complete(rows, lambda row: row['network'], group=setting)
    return [
        _figure2_row([row for row in rows if record(row) == record(last)])
        for last in chosen.values()
    ]


def _figure2_row(record: Sequence[Row]) -> Row:
    shares = {row['kind']: float(row['share']) for row in record}
    first = record[0]
    other = sum(
        share
        for kind, share in shares.items()
        if kind not in (*WORK, UNEXPLAINED)
    )
    # Multiply-adds a second, as a share of a matrix product's.
    of_peak = float(first['mflops']) / float(first['pass_ms'])
    of_peak /= float(first['peak_gflops_per_s'])
    return {
        'network': first['network'],
        'ms': f'{float(first["pass_ms"]):.1f}',
        **{kind: f'{shares.get(kind, 0):.0%}' for kind in WORK},
        'other': f'{other:.0%}',
        'unexplained': f'{float(first["unexplained_share"]):.0%}',
        'of peak': f'{of_peak:.0%}',
        'warning': warning_of(first) or 'none',
        'measured on': conditions_of(first).place,
    }


@cache
def config(path: Path) -> Config:
    """A config, read once."""
    return Config.fromfile(path)


class Cost(NamedTuple):
    """Multiply-adds of one image and parameters of a network, in millions."""

    mflops: float
    params_m: float


@cache
def cost(name: str) -> Cost:
    """What a network of the zoo costs at its size, with 1000 classes."""
    side = network(name).input_size
    with torch.device('meta'):
        model = build_classifier(name).eval()
        image = torch.empty(1, 3, side, side)
    params = sum(p.numel() for p in model.parameters())
    for layer in model.modules():
        # Costs no multiply-adds, and half of the time of counting them.
        if isinstance(layer, nn.BatchNorm2d):
            layer.forward = lambda x: x
    return Cost(macs(model, image) / 1e6, params / 1e6)


def network_rows(names: Iterable[str] = NETWORKS) -> list[Row]:
    """What each network costs, published and computed."""
    notes = {row['what was chosen']: row['note'] for row in choice_rows()}
    rows = []
    for name in names:
        here = cost(name)
        mflops = values('multiply-adds').get(name)
        params_m = values('parameters').get(name)
        rows.append(
            {
                'network': name,
                'image': str(network(name).input_size),
                **_compared('MFLOPs', mflops, here.mflops, 0),
                **_compared('M params', params_m, here.params_m, 1),
                'note': notes.get(network(name).choice, '-'),
            }
        )
    return rows


def _compared(
    unit: str, published: float | None, here: float, digits: int
) -> Row:
    text, off = 'not published', '-'
    if published is not None:
        text = f'{published:.{digits}f}'
        # Adding zero makes a rounded -0.0 positive.
        off = f'{round(100 * (here / published - 1), 1) + 0:+.1f} %'
    return {
        f'{unit} published': text,
        f'{unit} here': f'{here:.{digits + 1}f}',
        f'{unit} off by': off,
    }


def choice_rows() -> list[Row]:
    """What publications leave open and was chosen here, each told once."""
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
