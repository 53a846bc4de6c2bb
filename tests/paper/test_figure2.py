import csv

from mmdet_shufflenetv2.paper.figure2 import figure2_rows


def write(folder, *records):
    names = ('network', 'kind', 'share', 'pass_ms', 'unexplained_share')
    names += ('mflops', 'peak_gflops_per_s', 'doubt')
    with (folder / 'analysis_cpu.csv').open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerows([names, *records])


def test_kinds_of_a_network_become_columns(tmp_path):
    whole = (10, 0.05, 200, 100, '')
    write(
        tmp_path,
        ('a', 'convolution', 0.7, *whole),
        ('a', 'pooling', 0.15, *whole),
        ('a', 'matrix product', 0.1, *whole),
        ('a', 'between operations', 0.05, *whole),
    )
    (row,) = figure2_rows(tmp_path)
    assert row == {
        'network': 'a',
        'ms': '10.0',
        'convolution': '70%',
        'element-wise': '0%',
        'shuffle': '0%',
        'data movement': '0%',
        'other': '25%',
        'unexplained': '5%',
        # 200 M in 10 ms are 20 G a second, of 100.
        'of peak GFLOP/s': '20%',
        'doubt': 'none',
    }


def test_a_later_record_replaces_an_earlier_one(tmp_path):
    old, new = (10, 0.1, 1, 1, ''), (20, 0.4, 1, 1, 'spread 12%')
    write(
        tmp_path,
        ('a', 'convolution', 0.9, *old),
        ('a', 'shuffle', 0.1, *old),
        ('b', 'convolution', 0.5, *old),
        ('a', 'convolution', 0.6, *new),
    )
    a, b = figure2_rows(tmp_path)
    assert (a['convolution'], a['shuffle'], a['doubt']) == (
        '60%',
        '0%',
        'spread 12%',
    )
    assert b['convolution'] == '50%'
