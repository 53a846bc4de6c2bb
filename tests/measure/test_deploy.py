import pytest

from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.measure import deploy


def test_given_files_are_compared_and_missing_ones_rejected(asked, tmp_path):
    path = tmp_path / 'other.onnx'
    path.touch()
    found = asked('deploy', '--against', path, '--int8', path, path)
    cases = [each.key['case'] for each in found]
    assert set(cases) == set(deploy.CASES)
    assert cases.count('other file') == len(deploy.LIGHT)
    left = {each.key['case'] for each in asked('deploy')}
    assert left == set(deploy.CASES) - {'other file', 'int8'}
    with pytest.raises(UserError, match='no file'):
        asked('deploy', '--against', 'absent.onnx')
    with pytest.raises(UserError, match='precision fp32'):
        asked('deploy', '--precision', 'bf16')
