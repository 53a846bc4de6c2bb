from mmdet_shufflenetv2.benchmark.environment import cpu_name, describe


def test_cpu_name_is_the_model(tmp_path):
    file = tmp_path / 'cpuinfo'
    file.write_text('processor\t: 0\nmodel name\t: Fast: CPU 9000\n')
    assert cpu_name(file) == 'Fast: CPU 9000'


def test_cpu_name_is_never_empty(tmp_path):
    assert cpu_name(tmp_path / 'absent')


def test_threads_and_versions_are_recorded():
    columns = describe()
    assert columns['device'] == 'cpu'
    assert columns['threads'] >= 1
    assert {'cpu', 'cores', 'load', 'torch', 'python', 'date'} <= set(columns)
