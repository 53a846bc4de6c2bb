import json

import pytest

from mmdet_shufflenetv2.analysis import openmmlab
from mmdet_shufflenetv2.cli import main
from mmdet_shufflenetv2.engine import run_config

NETWORK = ['shufflenet_v2_x0_5', '--size', '64x32', '--threads', '1']


def run(*arguments):
    main('analyze', [*map(str, arguments)])


def test_everything_is_written_and_advice_comes_first(
    tmp_path, capsys, small_machine
):
    folder = tmp_path / 'new' / 'out'
    run(*NETWORK, '--quick', '--samples', 1, '--out-dir', folder)
    output = capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {
        *('report.txt', 'layers.csv', 'analysis.json', 'analysis.png'),
        'trace.json',
    }
    assert output.index('What would help') < output.index('Slowest of')
    found = json.loads((folder / 'analysis.json').read_text())
    # 40.5 M multiply-adds at 224x224, without the classifier's.
    convolutions = 40_476_448 - 1024 * 1000
    assert found['flops'] == pytest.approx(
        convolutions * 32 * 64 / 224**2 + 1024 * 1000, rel=0.02
    )
    assert found['size'] == [32, 64]
    fields = found['receptive_fields']
    assert {name: each['stride'] for name, each in fields.items()} == dict(
        stage2=[8, 8], stage3=[16, 16], stage4=[32, 32], conv5=[32, 32]
    )
    assert all(each['effective_size'] for each in fields.values())
    assert found['problems'] == []
    found_ways = [each['text'] for each in found['advice']] + found['no_gain']
    assert sum('times as fast' in text for text in found_ways) >= 2
    kinds = {row['kind'] for row in found['layers']}
    assert kinds >= {'convolution', 'shuffle', 'element-wise'}


def test_a_detector_is_analysed_to_its_detections(
    tmp_path, root, small_machine, capsys
):
    config = root / 'configs' / 'lighthead_shufflenetv2_x0_5.py'
    run(
        *(config, '--size', '96x64', '--threads', 1, '--quick'),
        *('--samples', 0, '--out-dir', tmp_path),
    )
    output = capsys.readouterr().out
    assert 'random weights: the score threshold was set to' in output
    assert ' detections\n' in output
    found = json.loads((tmp_path / 'analysis.json').read_text())
    assert found['problems'] == []
    assert found['kinds_ms']['post-processing'] > 0
    assert {'stage3', 'conv5', 'neck 0'} <= set(found['receptive_fields'])


@pytest.mark.parametrize(
    'network, folder',
    [
        ('mmpretrain.ResNet', 'mmpretrain.ResNet'),
        ('a/net_v1.5.py', 'net_v1.5'),
    ],
)
def test_each_network_has_a_folder_of_its_own(monkeypatch, network, folder):
    def stop(path, *_):
        raise NotImplementedError(path)

    monkeypatch.setattr(openmmlab, 'load', lambda *_: (None, (1, 1)))
    monkeypatch.setattr(run_config, 'require_writable', stop)
    with pytest.raises(NotImplementedError, match=f'analysis/{folder}$'):
        run(network)
