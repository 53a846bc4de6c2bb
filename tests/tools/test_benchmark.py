import csv

import pytest
import torch
from torchvision.models import DenseNet

from mmdet_shufflenetv2.cli import benchmark
from mmdet_shufflenetv2.measure.published import annotate
from mmdet_shufflenetv2.measure.setting import settings_of
from mmdet_shufflenetv2.measure.timing import Effort


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_everything_runs_small_and_goes_on_where_it_stopped(
    here, tmp_path, monkeypatch
):
    arguments = ('all', '--quick', '--out-dir', tmp_path)
    monkeypatch.setattr(benchmark, 'QUICK', Effort(1, 1, 0, 0))
    printed = here('benchmark', *arguments)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [
        f'{name}_cpu.csv'
        for name in sorted(benchmark.KINDS.keys() - {'deploy'})
    ]
    for file in files:
        rows = rows_of(file)
        assert {row['status'] for row in rows} == {'ok'}
        assert all(float(row['median_ms']) > 0 for row in rows)
    assert 'G1: at fixed FLOPs' in printed
    before = [file.read_bytes() for file in files]
    again = here('benchmark', *arguments)
    assert [file.read_bytes() for file in files] == before
    assert again.count('\n0 rows measured, ') == len(files)


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_a_plan_has_every_kind_and_asks_for_what_there_is(device):
    steps = benchmark.plan(benchmark.PLANS[device], device)
    # Exported files are run on the CPU.
    absent = {'deploy'} if device == 'cuda' else set()
    commands = {step.command for step in steps}
    assert commands == benchmark.KINDS.keys() - absent
    for step in steps:
        kind = benchmark.KINDS[step.command]
        assert kind.benchmarks(settings_of(step), step)


# Figures of CondenseNet's speed were not published.
@pytest.mark.parametrize(
    'kind, words, device, without',
    [
        ('guidelines', '', 'cpu', ''),
        ('guidelines', '', 'cuda', ''),
        ('backbones', '', 'cuda', 'condensenet_g4_c4 condensenet_g8_c8'),
        (
            'detectors',
            '--part network',
            'cuda',
            'lighthead_resnet101 lighthead_resnet50',
        ),
    ],
)
def test_every_key_of_the_papers_tables_finds_its_published_figure(
    kind, words, device, without
):
    (step,) = benchmark.plan(f'{kind} {words}', device)
    found = benchmark.KINDS[kind].benchmarks(settings_of(step), step)
    empty = set()
    for each in found:
        row = {**each.key, 'device': device}
        if not annotate(kind, row)['paper_per_s']:
            empty.add(row.get('network', row.get('config')))
    assert sorted(empty) == without.split()


def test_a_config_without_rpn_costs_its_own_cases(here, tmp_path):
    out = tmp_path / 'd.csv'
    printed = here(
        'benchmark',
        'detectors',
        'configs/swap/fcos_se-shufflenetv2_fpn_coco.py',
        'configs/lighthead_shufflenetv2_x0_5.py',
        *('--part', 'network', '--size', '96x64', '--batch', 1),
        *('--quick', '--out', out),
        code=1,
    )
    by_config = {row['config']: row['status'] for row in rows_of(out)}
    assert by_config['lighthead_shufflenetv2_x0_5'] == 'ok'
    assert 'expected a detector with an RPN' in printed


def test_feature_reuse_leaves_a_picture_and_a_table(here, tmp_path):
    densenet = DenseNet(4, (2, 3), 8, bn_size=2).state_dict()
    torch.save(densenet, tmp_path / 'densenet.pth')
    options = '--densenet', tmp_path / 'densenet.pth', '--out-dir', tmp_path
    here('feature_reuse', *options)
    assert (tmp_path / 'feature_reuse.png').stat().st_size > 10_000
    pairs = rows_of(tmp_path / 'feature_reuse.csv')
    assert len(pairs) == (6 + 28 + 6) + (3 + 6)
    first = dict(part='stage2', source='0', target='1', value='58')
    assert (first | dict(expected='58.0')).items() <= pairs[0].items()
