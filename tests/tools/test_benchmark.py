import csv
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger

from mmdet_shufflenetv2.cli import benchmark, main
from mmdet_shufflenetv2.measure import networks
from mmdet_shufflenetv2.measure.records import SCHEMA
from mmdet_shufflenetv2.measure.setting import Setting
from mmdet_shufflenetv2.paper.published import annotate


@pytest.fixture
def tool(monkeypatch, capsys):
    """Run a command in this process; what it sets is as before after it."""
    threads = torch.get_num_threads()
    logger = MMLogger.get_current_instance()
    level = logger.level

    def run(name, *arguments, code=0):
        monkeypatch.setenv('KINETO_LOG_LEVEL', '9')
        found = 0
        try:
            main(name, list(map(str, arguments)))
        except SystemExit as stopped:
            found = stopped.code or 0
        printed = capsys.readouterr()
        assert found == code, printed.err[-4000:]
        return SimpleNamespace(stdout=printed.out, stderr=printed.err)

    yield run
    logger.setLevel(level or logging.INFO)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    networks._pool.cache_clear()


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_everything_runs_small_and_goes_on_where_it_stopped(
    command, tool, tmp_path
):
    arguments = ('all', '--quick', '--out-dir', tmp_path)
    done = command('benchmark', *arguments)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [
        f'{name}_cpu.csv'
        for name in sorted(benchmark.EXPERIMENTS.keys() - {'deploy'})
    ]
    for file in files:
        rows = rows_of(file)
        assert rows
        assert {row['status'] for row in rows} == {'ok'}
        assert all(float(row['median_ms']) > 0 for row in rows)
    assert 'G1 (equal channel width' in done.stdout
    assert 'end to end' in done.stdout
    before = [file.read_bytes() for file in files]
    again = tool('benchmark', *arguments)
    assert [file.read_bytes() for file in files] == before
    assert again.stdout.count('\n0 rows measured, ') == len(files)


def test_a_spent_budget_leaves_everything(tool, tmp_path):
    arguments = ('--quick', '--budget-minutes', '1e-9', '--out-dir', tmp_path)
    done = tool('benchmark', 'all', *arguments)
    assert 'The time is over with ' in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_a_plan_has_every_experiment(device):
    steps = benchmark.plan(device, device)
    # Exported files are run on the CPU.
    absent = {'deploy'} if device == 'cuda' else set()
    commands = {step.command for step in steps}
    assert commands == benchmark.EXPERIMENTS.keys() - absent
    precisions = {p for step in steps for p in step.precision}
    assert {'fp32', 'fp16', 'bf16'} <= precisions or device == 'cpu'
    for step in steps:
        options = {
            name.lstrip('-'): getattr(step, name.lstrip('-'))
            for name in benchmark.OPTIONS[step.command]
        }
        experiment = benchmark.EXPERIMENTS[step.command]
        assert experiment.benchmarks(benchmark.settings(step), **options)


def test_guidelines_stand_beside_the_papers_figures(tool, tmp_path):
    out = tmp_path / 'g.csv'
    arguments = ('G4', '--quick', '--device', 'cpu:0', '--out', out)
    done = tool('guidelines', *arguments)
    rows = rows_of(out)
    assert len(rows) == 12
    last = rows[-1]
    assert last['row'] == 'ReLU no, shortcut no'
    assert float(last['paper_per_s']) == 5.4
    assert float(last['paper_time_ratio']) == pytest.approx(0.926, abs=1e-3)
    assert {(r['threads'], r['layout'], r['batch']) for r in rows} == {
        ('1', 'channels_last', '1')
    }
    assert 'G4 (element-wise' in done.stdout


def test_every_key_of_the_papers_tables_finds_its_published_figure():
    def published(kind, device='cpu', **options):
        setting = Setting(device)
        found = benchmark.EXPERIMENTS[kind].benchmarks([setting], **options)
        return {
            tuple(each.key.values()): annotate(
                kind, {**each.key, 'device': device}
            )['paper_per_s']
            for each in found
        }

    for platform in 'arm', 'gpu':
        assert all(published('guidelines', platform=platform).values())
    # Figures of CondenseNet's speed were not published.
    without = {
        key[2] for key, found in published('backbones').items() if not found
    }
    assert without == {'condensenet_g8_c8', 'condensenet_g4_c4'}
    table7 = published('detectors', device='cuda', part=['network'])
    assert {key[0] for key, found in table7.items() if not found} == {
        'lighthead_resnet50',
        'lighthead_resnet101',
    }


def test_records_of_a_newer_version_are_refused_and_kept(tool, tmp_path):
    out = tmp_path / 'ops.csv'
    out.write_text(f'schema,op\n{SCHEMA + 1},x\n')
    done = tool('benchmark', 'ops', '--quick', '--out', out, code=2)
    assert done.stderr.startswith(f'error: {out} was written by a newer')
    assert out.read_text() == f'schema,op\n{SCHEMA + 1},x\n'


@pytest.mark.parametrize(
    'arguments, words',
    [
        (('detectors', 'configs/no.py'), 'config not found: configs/no.py'),
        (('shuffle', '--device', 'cuda:99'), 'device: cuda:99 was asked for'),
        (('backbones', '--network', 'resnet'), 'network must be a published'),
    ],
)
def test_what_is_not_there_is_one_line_and_exit_code_2(
    tool, tmp_path, arguments, words
):
    out = ('--out', tmp_path / 'x.csv')
    done = tool('benchmark', *arguments, *out, code=2)
    assert done.stderr.startswith('error: ')
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_config_without_rpn_costs_its_own_cases(tool, tmp_path):
    out = tmp_path / 'd.csv'
    done = tool(
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
    assert 'expected a detector with an RPN' in done.stdout


def test_feature_reuse_leaves_a_picture_and_a_table(command, tmp_path):
    done = command('feature_reuse', '--out-dir', tmp_path)
    assert '116 (116), 58 (58)' in done.stdout
    assert (tmp_path / 'feature_reuse.png').stat().st_size > 10_000
    assert len(rows_of(tmp_path / 'feature_reuse.csv')) == 6 + 28 + 6
