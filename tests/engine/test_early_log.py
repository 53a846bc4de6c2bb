from mmengine.logging import print_log
from torch import nn

from mmdet_shufflenetv2.engine import CheckedRunner
from mmdet_shufflenetv2.engine.early_log import keep_records


def test_log_file_begins_with_what_was_said_before_there_was_one(tmp_path):
    keep_records()
    print_log('a box is thin', 'current', level=30)
    for name in 'first', 'second':
        CheckedRunner(
            nn.Identity(), str(tmp_path / name), experiment_name=name
        )
    (first,) = tmp_path.glob('first/*/*.log')
    (second,) = tmp_path.glob('second/*/*.log')
    assert 'WARNING - a box is thin' in first.read_text().splitlines()[0]
    assert 'a box is thin' not in second.read_text()
