"""Computing the tables of README and docs, and filling them in."""

import pytest
from report_rows import GPU, detector, op

from mmdet_shufflenetv2.cli.update_readme import generated
from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.paper import docs_tables

TEXT = '# Title\n<!-- table runs: model, mAP -->\nold\n<!-- end -->\nrest\n'
PLACE = 'Core X, 1 thread, PyTorch 2.14.1'


def test_table_is_filled_and_stays():
    runs = dict(model='a', note='x', mAP='0.5'), dict(model='b', mAP='')
    once = docs_tables.filled(TEXT, dict(runs=runs))
    assert once == (
        '# Title\n<!-- table runs: model, mAP -->\n'
        '| model | mAP |\n| --- | --- |\n| a | 0.5 |\n| b | not measured |\n'
        '<!-- end -->\nrest\n'
    )
    assert docs_tables.filled(once, dict(runs=runs)) == once
    with pytest.raises(UserError, match='no column mAP; it has model'):
        docs_tables.filled(TEXT, dict(runs=[dict(model='a')]))


def test_generated_files_are_up_to_date(root):
    texts = generated(root, root / 'results')
    for path, text in texts.items():
        assert path.read_text('utf-8') == text, path
    # The model index, README, and seven pages of docs.
    assert len(texts) == 9


def test_table_7_has_the_map_reached_on_coco(root, write, results):
    name = 'lighthead_xception_x1_0'
    runs = ('COCO', 0.271), ('COCO', 0.2849), ('BCCD blood cells', 0.5)
    rows = [dict(config=name, data=data, mAP=mmap) for data, mmap in runs]
    write('trained.csv', *rows)
    rows = docs_tables.table7_rows(root, results())
    assert len(rows) == 20
    (row,) = (row for row in rows if row['here: mmAP'])
    assert f'[{name}](configs/{name}.py)' == row['config']
    assert (row['paper: mmAP'], row['here: mmAP']) == ('29.0', '28.5')


def test_bccd_speeds_share_one_machine_and_setting_and_name_it(write, results):
    def on_bccd(name, images_per_s, **changes):
        whole = dict(input='480x360', batch='4', part='training step')
        whole |= dict(images_per_s=images_per_s)
        return detector(name, 1, '', **whole | changes)

    runs = [dict(config=name, mAP='0.5', AP50='0.8') for name in ('a', 'b')]
    write('bccd_backbones.csv', *runs)
    write('detectors', on_bccd('a', '1.5'), on_bccd('b', '2.5'))
    for change in dict(threads='8'), dict(warning='--quick'), dict(batch='8'):
        write('detectors', on_bccd('a', '99', date='2026-02-02', **change))
    write('detectors', on_bccd('a', '99'), where=GPU)
    first, second = docs_tables.bccd_rows(results())
    config, *quality, training, inference, place = first.values()
    assert config == '[a](configs/a.py)'
    assert quality == ['0.5', '0.8']
    assert (training, inference, place) == ('1.5', '', PLACE)
    assert second['training images/s'] == '2.5'


def test_ops_are_listed_for_every_machine_with_their_slowest_case(
    write, results
):
    name, both = 'ps_roi_pool', 'forward and backward'
    write(
        'ops',
        op(name, 2.0),
        op(name, 3.7, rois='1200'),
        op(name, 0.85, passes=both),
        op(name, 9.9, layout='channels_last'),
        op(name, 9.9, threads='2', date='2026-02-02'),
        op(name, 1.5, cpu='Core Z'),
    )
    first, second = docs_tables.ops_rows(results())
    times = '2 to 3.7', '0.85', '1 of 3 cases'
    assert tuple(first.values()) == ('`ps_roi_pool`', *times, PLACE)
    assert (second['forward'], second[both]) == ('1.5', '')
    assert second['measured on'].startswith('Core Z')


def test_the_error_for_a_missing_column_names_its_file(write, results):
    row = op('ps_roi_pool', 2.0)
    del row['rois']
    write('ops', row)
    with pytest.raises(UserError, match=r'ops_cpu\.csv has no column rois'):
        docs_tables.ops_rows(results())


def test_a_networks_last_record_of_one_setting_is_a_row(write, results):
    def record(pass_ms, change=(), **shares):
        common = dict(
            network='a',
            input='224x224',
            pass_ms=pass_ms,
            unexplained_share='0.05',
            mflops='200',
            peak_gflops_per_s='100',
        )
        rows = [dict(kind=k, share=str(v)) for k, v in shares.items()]
        write('analysis', *({**common, **row, **dict(change)} for row in rows))

    record('20', convolution=0.5, shuffle=0.5)
    record('10', convolution=0.7, pooling=0.15, linear=0.1)
    record('20', dict(network='b'), convolution=1)
    record('5', dict(threads='2', date='2026-02-02'), convolution=1)
    row, other = docs_tables.figure2_rows(results())
    # 200 MMACs in 10 ms are 20 of 100 GMAC/s.
    shares = ['70%', '0%', '0%', '0%', '25%', '5%', '20%']
    assert [*row.values()] == ['a', '10.0', *shares, 'none', PLACE]
    assert other['network'] == 'b'


def test_published_and_computed_cost_stand_side_by_side():
    # ResNet-50 in Caffe's style, counted by hand.
    found = docs_tables.cost('resnet_50')
    assert found == pytest.approx((3858, 25.557), rel=1e-4)
    far, unpublished = docs_tables.network_rows(
        ['shufflenet_v1_50_g3', 'shufflenet_v2_star_x0_5']
    )
    assert far['MFLOPs published'] == '2300'
    assert far['MFLOPs off by'] == '-47.4 %'
    assert far['M params published'] == 'not published'
    assert unpublished['MFLOPs off by'] == unpublished['note'] == '-'
