"""`analyze` as called by users, and with PyTorch only."""

import csv
import json

import pytest
import torch
from commands import python
from nets import Net
from torch import nn

from mmdet_shufflenetv2.analysis import analysis as module
from mmdet_shufflenetv2.analysis import analyze
from mmdet_shufflenetv2.measure.flops import macs

pytestmark = pytest.mark.usefixtures('small_machine')


IMAGE = torch.randn(1, 3, 32, 32)


def choose(network, x):
    """Operations that depend on values, as in detectors."""
    x = network.conv(x)
    best = x.gather(1, x.argmax(1, True))
    x[x > 0.5] = 0
    return x.masked_fill(best < 0, 1.0), x[x > 0.1].sum()


def chooser():
    return Net(choose, conv=nn.Conv2d(3, 8, 3, padding=1))


def test_any_network_is_analysed_and_not_modified(tmp_path):
    network = chooser().train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    result = analyze(network, IMAGE, quick=True)
    assert result.problems == []
    assert result.flops == macs(network, IMAGE) == 32 * 32 * 27 * 8
    assert result.params == 27 * 8 + 8
    assert result.peak_mb > 0
    assert result.fields['conv'].size == (3, 3)
    assert 'conv' in result.gradients
    assert set(result.ways) == {'channels-last'}
    assert 'Net: 1 x 3 x 32 x 32' in result.table()
    assert all(module.training for module in network.modules())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
    hooks = nn.modules.module
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks

    result.to_csv(tmp_path / 'a.csv')
    with (tmp_path / 'a.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row['flops']) for row in rows) == result.flops
    assert sum(int(row['params']) for row in rows) == result.params
    result.to_trace(tmp_path / 'trace.json')
    events = json.loads((tmp_path / 'trace.json').read_text())['traceEvents']
    names = {event.get('name') for event in events}
    assert {'conv', 'aten::convolution'} <= names


def test_one_time_work_of_the_first_pass_is_not_recorded():
    def anchors(network, x):
        if not hasattr(network, 'anchors'):
            network.anchors = x.mul(2)
        return x + network.anchors

    assert analyze(Net(anchors), IMAGE, quick=True).times.repeats


def first(inputs):
    return inputs['image'] if isinstance(inputs, dict) else inputs


SMALL = torch.rand(4, 3, 16, 16)
CONV = nn.Conv2d(3, 4, 3)


@pytest.mark.parametrize(
    'network, inputs, batch, size, fields',
    [
        (CONV, SMALL, 4, (16, 16), ['(root)']),
        (
            Net(lambda m, x: m.c(first(x)), c=CONV),
            ({'image': SMALL},),
            4,
            (16, 16),
            ['c'],
        ),
        (Net(lambda m, x: m.c(x[0]), c=CONV), ([SMALL],), 4, (16, 16), ['c']),
        (
            Net(lambda m, x: [m.c(each) for each in x], c=CONV),
            ([*SMALL],),
            4,
            (16, 16),
            None,
        ),
        (CONV, SMALL[0], 1, (16, 16), None),
        (nn.Linear(16, 2), SMALL[0], 3, None, []),
        (nn.Conv1d(5, 4, 3), torch.rand(2, 5, 16), 2, None, []),
        # A stride of 128.
        (
            nn.Sequential(*(nn.Conv2d(3, 3, 3, 2, 1) for _ in range(7))),
            torch.rand(1, 3, 512, 512),
            1,
            (512, 512),
            [*'0123456'],
        ),
        (nn.Identity(), SMALL, 4, (16, 16), ['(root)']),
    ],
)
def test_inputs_of_any_form(network, inputs, batch, size, fields, tmp_path):
    with torch.inference_mode():
        result = analyze(network, inputs, quick=True, ways=())
    assert (result.batch, result.size) == (batch, size)
    assert [*result.fields] == [*result.gradients] == (fields or [])
    # What is missing is said.
    assert len(result.problems) == (fields is None)
    result.to_csv(tmp_path / 'a.csv')
    assert (tmp_path / 'a.csv').read_text().startswith('layer,part,type,')


def test_every_pass_gets_the_same_input():
    seen = []

    def run(network, x):
        if type(x) is torch.Tensor and x.dtype == torch.float32:
            seen.append(x.max().item())
        return network.conv(x.mul_(255))

    image = IMAGE.clone()
    result = analyze(Net(run, conv=CONV), image, quick=True, samples=0)
    assert torch.equal(image, IMAGE)
    assert result.problems == []
    assert set(seen) == {IMAGE.max().item()}
    assert result.fields['conv'].size == (3, 3)
    assert 'overwrites its input' in result.table()


def compiled_in_place():
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    network[0].compile()
    return network


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: torch.compile(nn.Conv2d(3, 4, 3)), 'compiled.*_orig_mod'),
        (compiled_in_place, 'a compiled one'),
        (lambda: torch.jit.script(nn.Conv2d(3, 4, 3)), 'a scripted one'),
        (
            lambda: torch.export.export(nn.Conv2d(3, 4, 3), (IMAGE,)).module(),
            'an exported one',
        ),
    ],
)
def test_only_networks_as_written_can_be_analysed(make, message):
    with pytest.raises(ValueError, match=message):
        analyze(make(), IMAGE)


def test_a_failing_step_loses_only_its_own_figures(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise IndexError('no such thing\nmore lines')

    monkeypatch.setattr(module.twins, 'breaches_of', fail)
    result = analyze(chooser(), IMAGE, quick=True)
    assert result.problems == ['guidelines: IndexError: no such thing']
    assert 'failed: guidelines: IndexError' in result.table()
    result.to_json(tmp_path / 'a.json')
    assert json.loads((tmp_path / 'a.json').read_text())['flops'] > 0


_ALONE = """
import sys
sys.modules.update(dict.fromkeys({absent}))
import torch
from mmdet_shufflenetv2.analysis import analyze, roofline
from torch import nn
roofline._MATRIX_SIDES, roofline._COPIED = (8,), (2**10, 2**12)
network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
result = analyze(network, torch.rand(1, 3, 16, 16), quick=True)
assert result.problems == [], result.problems
assert all('times as fast' in way.text for way in result.ways.values())
print(result.table(3))
result.to_csv({folder!r} + '/a.csv')
try:
    result.plot({folder!r} + '/a.png')
except ValueError as error:
    print(error)
"""
_ABSENT = (
    *('mmdet', 'mmengine', 'mmcv', 'mmpretrain', 'torchvision', 'matplotlib'),
    *('cv2', 'pycocotools', 'tqdm', 'pandas'),
)


def test_pytorch_alone_is_enough(tmp_path):
    code = _ALONE.format(absent=_ABSENT, folder=str(tmp_path))
    output = python('-c', code)
    assert 'Sequential: 1 x 3 x 16 x 16' in output
    assert 'the picture needs matplotlib' in output
    assert (tmp_path / 'a.csv').is_file()
