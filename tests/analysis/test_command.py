import csv
import json
from itertools import count

import pytest
import torch

from mmdet_shufflenetv2.analysis import command, operation_times
from mmdet_shufflenetv2.analysis.analysis import QUICK, Request, analyse
from mmdet_shufflenetv2.analysis.networks import Subject, load_subject
from mmdet_shufflenetv2.engine.run_config import UsageError

NETWORK = ['shufflenet_v2_x0_5', '--size', '64x32', '--threads', '1']


def run(*arguments):
    command.run(command.parser('doc').parse_args(list(map(str, arguments))))


@pytest.fixture
def small_machine(monkeypatch):
    """Peaks that take no time to measure."""
    monkeypatch.setattr(operation_times, '_MATRIX_SIDES', (8,))
    monkeypatch.setattr(operation_times, '_COPIED', (2**10, 2**12))


def test_everything_is_written_and_advice_comes_first(
    tmp_path, capsys, small_machine
):
    folder = tmp_path / 'new' / 'out'
    run(*NETWORK, '--quick', '--samples', 1, '--out-dir', folder)
    said = capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == set(command.OUTPUTS)
    assert said.index('What would help') < said.index('Slowest of')
    found = json.loads((folder / 'analysis.json').read_text())
    # 40.5 M multiply-adds at 224x224 but for the classifier's.
    convolutions = 40_476_448 - 1024 * 1000
    assert found['flops'] == pytest.approx(
        convolutions * 32 * 64 / 224**2 + 1024 * 1000, rel=0.02
    )
    assert found['size'] == [32, 64]
    assert set(found['receptive_fields']) == {
        'stage2',
        'stage3',
        'stage4',
        'conv5',
    }
    assert {each['name'] for each in found['alternatives']} == {
        'batch norm folded',
        'channels-last',
        'contiguous',
    }
    assert not any(each['problem'] for each in found['alternatives'])
    with (folder / 'layers.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row['flops']) for row in rows) == found['flops']
    assert sum(int(row['params']) for row in rows) == found['params']
    assert {row['kind'] for row in rows} >= {'convolution', 'shuffle'}


def test_the_network_analysed_is_left_as_it_was(small_machine):
    subject = load_subject('ShuffleNetV2', dict(widen_factor=0.5))
    image = torch.randn(1, 3, 32, 32)
    request = Request(
        (32, 32), effort=QUICK, samples=1, quick=True, settled=True, quiet=True
    )
    with torch.no_grad():
        before = subject.model(image)
        analyse(subject, request)
        after = subject.model(image)
    assert all(map(torch.equal, before, after))
    assert not any(m._forward_pre_hooks for m in subject.model.modules())


@pytest.mark.parametrize('text', ['800', '0x5', '8x', 'axb', '-1x4', '4x4x4'])
def test_wrong_sizes_are_refused(text, capsys):
    with pytest.raises(SystemExit):
        command.parser('doc').parse_args(['net', '--size', text])
    said = capsys.readouterr().err
    assert 'WIDTHxHEIGHT' in said or 'expected one argument' in said


@pytest.mark.parametrize(
    'arguments',
    [
        ('--batch', '0'),
        ('--batch', 'two'),
        ('--threads', '-1'),
        ('--seconds', '0'),
        ('--seconds', 'nan'),
        ('--samples', '1.5'),
        ('--precision', 'fp7'),
    ],
)
def test_wrong_numbers_are_refused_by_their_option(arguments, capsys):
    with pytest.raises(SystemExit):
        command.parser('doc').parse_args(['net', *arguments])
    assert f'argument {arguments[0]}' in capsys.readouterr().err


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--device', 'tpu'], "allowed, got 'tpu'"),
        (['--device', 'meta'], "allowed, got 'meta'"),
        (['--quick', '--record', 'a.csv'], 'a --quick look is not worth'),
        (['--out-dir', '/dev/null/a'], 'cannot write to the output folder'),
    ],
)
def test_wrong_arguments_are_answered_in_a_sentence(arguments, words):
    with pytest.raises(UsageError, match=words):
        run(*NETWORK, *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_an_absent_gpu_is_said_to_be_absent(tmp_path):
    with pytest.raises(UsageError, match='--device cpu measures'):
        run(*NETWORK, '--device', 'cuda', '--out-dir', tmp_path)


def test_what_does_not_fit_in_memory_is_told_as_such(tmp_path):
    size = ('--size', '999999x999999')
    with pytest.raises(UsageError, match=r'does not fit in memory.* free'):
        run('shufflenet_v2_x0_5', *size, '--out-dir', tmp_path)


def test_a_network_that_cannot_run_says_why(tmp_path, monkeypatch):
    def run_at_once(self, image):
        raise RuntimeError('kernel is larger than the input\nat somewhere')

    monkeypatch.setattr(Subject, 'run', run_at_once)
    with pytest.raises(UsageError) as caught:
        run(*NETWORK, '--out-dir', tmp_path)
    assert str(caught.value) == (
        'shufflenet_v2_x0_5 at 1 x 32 x 64 cannot run: RuntimeError: kernel '
        'is larger than the input'
    )


def test_a_detector_that_cannot_predict_is_run_up_to_there():
    class Detector(torch.nn.Module):
        bbox_head = None

        def extract_feat(self, image):
            return image

        def forward(self, image, samples, mode):
            if mode == 'predict':
                raise AttributeError('loss_cls')
            return image

    request = Request((8, 8))
    found = command._running(Subject('net', Detector()), request)
    assert found.no_results == 'AttributeError: loss_cls'
    assert found.run(torch.ones(1, 3, 8, 8)).shape == (1, 3, 8, 8)


def test_a_network_that_never_repeats_itself_is_told_as_such(
    tmp_path, monkeypatch, small_machine
):
    turns = count(1)

    def run_longer(self, image):
        for _ in range(next(turns)):
            image = image + 1
        return image

    monkeypatch.setattr(Subject, 'run', run_longer)
    with pytest.raises(UsageError, match='every pass must execute the same'):
        run(*NETWORK, '--quick', '--out-dir', tmp_path)


def test_memory_that_runs_out_in_the_middle_is_told_as_such(
    tmp_path, monkeypatch
):
    def analysed(subject, request):
        raise RuntimeError('DefaultCPUAllocator: not enough memory: you tried')

    monkeypatch.setattr(command, 'analyse', analysed)
    with pytest.raises(UsageError, match='does not fit in memory'):
        run(*NETWORK, '--out-dir', tmp_path)
