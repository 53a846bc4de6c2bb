"""The computed tables of README and docs, and how they are filled in."""

import pytest
from mmengine.config import Config
from report_rows import GPU, detector, op

from mmdet_shufflenetv2.backbones.zoo import NETWORKS, network_of
from mmdet_shufflenetv2.cli.update_readme import generated
from mmdet_shufflenetv2.errors import UserError
from mmdet_shufflenetv2.paper import docs_tables
from mmdet_shufflenetv2.paper.docs_tables import (
    BLOCK,
    PAGES,
    bccd_rows,
    choice_rows,
    cost,
    filled,
    network_rows,
    ops_rows,
)
from mmdet_shufflenetv2.paper.figure2 import figure2_rows
from mmdet_shufflenetv2.paper.published import speeds

TEXT = '# Title\n<!-- table runs: model, mAP -->\nold\n<!-- end -->\nrest\n'
BCCD = [dict(config=name, mAP='0.5', AP50='0.8') for name in ('a', 'b')]


def on_bccd(config, images_per_s, **changes):
    """Both parts of a detector on BCCD's images."""
    whole = dict(input='480x360', batch='4', images_per_s=images_per_s)
    row = detector(config, 1, '', **whole)
    parts = 'training step', 'end to end'
    return [row | dict(part=part) | changes for part in parts]


def test_table_is_filled_and_stays():
    runs = dict(model='a', note='x', mAP='0.5'), dict(model='b', mAP='')
    once = filled(TEXT, dict(runs=runs))
    assert once == (
        '# Title\n<!-- table runs: model, mAP -->\n'
        '| model | mAP |\n| --- | --- |\n| a | 0.5 |\n| b | not measured |\n'
        '<!-- end -->\nrest\n'
    )
    assert filled(once, dict(runs=runs)) == once


def test_unknown_table_or_column_is_refused():
    with pytest.raises(UserError, match=r'results/runs\.csv has no rows'):
        filled(TEXT, {})
    with pytest.raises(UserError, match='no column mAP; it has model, AP'):
        filled(TEXT, dict(runs=[dict(model='a', AP='0.5')]))


def test_what_is_generated_is_up_to_date(root):
    for path, text in generated(root, root / 'results').items():
        assert path.read_text('utf-8') == text, path
    pages = {name: (root / name).read_text('utf-8') for name in PAGES}
    tables = {n: {m[1] for m in BLOCK.findall(t)} for n, t in pages.items()}
    assert tables['docs/measuring.md'] == {'claims', 'deploy'}
    assert tables['docs/versions.md'] == {'versions'}
    assert tables['docs/networks.md'] == {'networks', 'choices'}
    assert tables['docs/analyze.md'] == {'figure2'}


def test_table_7_has_the_papers_order_and_what_coco_gave_here(
    root, write, results
):
    name = 'lighthead_xception_x1_0'
    runs = ('COCO', 0.271), ('COCO', 0.2849), ('BCCD blood cells', 0.5)
    write.plain(
        'trained.csv',
        *(dict(config=name, data=data, mAP=mmap) for data, mmap in runs),
    )
    rows = docs_tables.table7_rows(root, results())
    assert [row['complexity'] for row in rows] == [
        column for column in ('40M', '140M', '300M', '500M') for _ in range(5)
    ]
    (row,) = (row for row in rows if row['here: mmAP'])
    assert f'[{name}](configs/{name}.py)' == row['config']
    assert (row['paper: mmAP'], row['here: mmAP']) == ('29.0', '28.5')


def test_configs_of_table_7_have_the_backbones_of_table_8(root):
    table8 = {(k.row, k.column) for k in speeds() if k.table == 'Table 8'}
    for key in speeds():
        if key.table == 'Table 7':
            path = root / 'configs' / f'{key.row}.py'
            name = network_of(Config.fromfile(path).model.backbone)
            # V2* is V2 with more in each unit.
            assert (name.replace('_star', ''), key.column) in table8


def test_bccd_speeds_are_of_one_machine_and_setting_and_say_which(
    write, results
):
    write.plain('bccd_backbones.csv', *BCCD)
    write('detectors', *on_bccd('a', '1.5'), on_bccd('b', '2.5')[0])
    for change in (
        dict(threads='8'),
        dict(precision='bf16'),
        dict(torch='2.15.0'),
        dict(warning='--quick'),
        dict(status='failed'),
        dict(batch='8'),
        dict(input='600x400'),
    ):
        later = on_bccd('a', '99', date='2026-02-02', **change)
        write('detectors', *later)
    write('detectors', on_bccd('a', '99')[0], where=GPU, name='detectors_cuda')
    first, second = bccd_rows(results())
    assert first == {
        'config': '[a](configs/a.py)',
        'mAP': '0.5',
        'AP50': '0.8',
        'training images/s': '1.5',
        'inference images/s': '1.5',
        'speed measured on': 'Core X, 1 thread, PyTorch 2.14.1',
    }
    assert second['training images/s'] == '2.5'
    assert second['inference images/s'] == ''


def test_ops_are_told_for_every_machine_with_their_slowest_case(
    write, results
):
    name, both = 'ps_roi_pool', 'forward and backward'
    write(
        'ops',
        op(name, 2.0),
        op(name, 3.7, rois='1200'),
        op(name, 0.85, passes=both),
        op(name, 9.9, map_layout='bin-major channels-last'),
        op(name, 9.9, threads='2', date='2026-02-02'),
        op(name, 1.5, cpu='Core Z'),
    )
    first, second = ops_rows(results())
    assert first == {
        'op': '`ps_roi_pool`',
        'forward': '2 to 3.7',
        both: '0.85',
        'slower than torchvision in': '1 of 3 cases',
        'measured on': 'Core X, 1 thread, PyTorch 2.14.1',
    }
    assert (second['forward'], second[both]) == ('1.5', '')
    assert second['measured on'].startswith('Core Z')


def record(network, pass_ms, shares, **changes):
    """A record of the analyser: a row for each kind of work."""
    common = dict(
        network=network,
        input='224x224',
        batch='1',
        pass_ms=str(pass_ms),
        unexplained_share='0.05',
        mflops='200',
        peak_gflops_per_s='100',
        warning='',
    )
    rows = [dict(kind=kind, share=str(share)) for kind, share in shares]
    return [{**common, **row, **changes} for row in rows]


def test_kinds_of_a_network_become_columns(write, results):
    shares = [
        ('convolution', 0.7),
        ('pooling', 0.15),
        ('matrix product', 0.1),
        ('between operations', 0.05),
    ]
    write('analysis', *record('a', 10, shares))
    (row,) = figure2_rows(results())
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
        'of peak': '20%',
        'warning': 'none',
        'measured on': 'Core X, 1 thread, PyTorch 2.14.1',
    }


def test_records_of_one_setting_stand_together_and_the_last_counts(
    write, results
):
    old = [('convolution', 0.9), ('shuffle', 0.1)]
    write('analysis', *record('a', 10, old), *record('b', 10, old))
    write('analysis', *record('a', 20, [('convolution', 0.6)]))
    write('analysis', *record('a', 5, old, threads='2', date='2026-02-02'))
    a, b = figure2_rows(results())
    assert (a['ms'], a['convolution'], a['shuffle']) == ('20.0', '60%', '0%')
    assert (b['ms'], b['convolution']) == ('10.0', '90%')


def test_cost_is_that_of_a_count_by_hand():
    """ResNet-50 in Caffe's style: 3.86 billion, 25.557 million."""
    assert cost('resnet_50') == pytest.approx((3858, 25.557), abs=0.5)
    # At its own 192 pixels, not at 224.
    assert cost('mobilenet_v2_x0_75').mflops == pytest.approx(140.7, abs=0.1)


def test_published_and_computed_cost_stand_side_by_side():
    far, unpublished = network_rows(
        ['shufflenet_v1_50_g3', 'shufflenet_v2_star_x0_5']
    )
    assert far['MFLOPs published'] == '2300'
    assert far['MFLOPs off by'] == '-47.4 %'
    assert far['M params published'] == 'not published'
    assert unpublished['MFLOPs published'] == 'not published'
    assert unpublished['MFLOPs off by'] == unpublished['note'] == '-'


def test_what_was_chosen_for_several_networks_is_told_once():
    rows = choice_rows()
    assert len({row['what was chosen'] for row in rows}) == len(rows)
    named = [name for row in rows for name in row['networks'].split(', ')]
    assert sorted(named) == sorted(n for n, r in NETWORKS.items() if r.choice)
