import argparse

import pytest

from mmdet_shufflenetv2.engine.run_config import UsageError
from mmdet_shufflenetv2.measure import command, everything
from mmdet_shufflenetv2.measure.command_line import COMMANDS
from mmdet_shufflenetv2.measure.everything import PLANS, plan, run_plan


def steps_of(monkeypatch, tmp_path, *words):
    monkeypatch.setattr(everything, 'require_device', lambda device: device)
    monkeypatch.setattr(command, 'require_device', lambda device: device)
    parser = argparse.ArgumentParser()
    everything.add_arguments(parser)
    args = parser.parse_args([*words, '--out-dir', str(tmp_path)])
    return plan(args, COMMANDS)


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_the_plan_has_every_command_and_can_be_parsed(
    monkeypatch, tmp_path, device
):
    steps = steps_of(monkeypatch, tmp_path, '--device', device)
    assert {step.command.name for step in steps} == COMMANDS.keys()
    for step in steps:
        name = f'{step.command.name}_{device}.csv'
        assert step.args.out == tmp_path / name
        assert step.args.device == device
        assert step.command.cases(step.args)


def test_a_gpu_is_measured_in_both_precisions_and_its_batches(
    monkeypatch, tmp_path
):
    seen = {}
    for step in steps_of(monkeypatch, tmp_path, '--device', 'cuda'):
        for case in step.command.cases(step.args):
            seen.setdefault(step.command.name, set()).add(
                (
                    case.key.get('table'),
                    case.setting.precision,
                    case.key.get('batch'),
                )
            )
    assert {p for _, p, _ in seen['guidelines']} == {'fp32', 'fp16'}
    assert {b for _, _, b in seen['guidelines']} == {8, 1}
    table8 = {(p, b) for t, p, b in seen['backbones'] if t == 'Table 8'}
    assert table8 == {('fp32', 8), ('fp16', 8)}
    tables = {table for table, _, _ in seen['backbones']}
    assert {'Appendix Table 1a', 'Appendix Table 1b'} < tables
    assert seen['detectors'] == {(None, 'fp32', 4), (None, 'bf16', 4)}


def test_switches_reach_every_step(monkeypatch, tmp_path):
    steps = steps_of(monkeypatch, tmp_path, '--quick', '--again')
    assert len(steps) == len(PLANS['quick'])
    assert all(step.args.quick and step.args.again for step in steps)


def test_a_spent_budget_leaves_everything(monkeypatch, tmp_path, capsys):
    steps = steps_of(monkeypatch, tmp_path, '--quick')[:1]
    assert run_plan(steps, 1e-9) == []
    told = capsys.readouterr().out
    assert 'The time is over with 24 measurements left' in told
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_is_not_there_is_told():
    with pytest.raises(UsageError, match='device: cuda:99 was asked for'):
        command.require_device('cuda:99')
    for name in 'tpu', 'xpu':
        with pytest.raises(UsageError, match='cuda:N are allowed'):
            command.require_device(name)
