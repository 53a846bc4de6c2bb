import pytest

from mmdet_shufflenetv2.paper.detectors import bccd_rows, table7_rows

MEASURED = 'lighthead_xception_x1_0'


@pytest.fixture(scope='module')
def rows(root, with_runs):
    return table7_rows(
        root,
        with_runs(
            (MEASURED, 'COCO val2017', 0.271),
            (MEASURED, 'COCO val2017', 0.2849),
            (MEASURED, 'BCCD blood cells', 0.5),
            ('lighthead_xception_x0_5', 'BCCD blood cells', 0.5),
        ),
    )


def test_table_7_has_a_row_per_config_by_complexity(root, rows):
    columns = [row['complexity'] for row in rows]
    assert columns == ['40M'] * 5 + ['140M'] * 5 + ['300M'] * 5 + ['500M'] * 5
    assert len({row['config'] for row in rows}) == 20
    for row in rows:
        target = row['config'].partition('(')[2].rstrip(')')
        assert (root / target).is_file()


def test_mmap_measured_on_coco_stands_beside_the_papers(rows):
    (row,) = (row for row in rows if f'[{MEASURED}]' in row['config'])
    assert row['paper: mmAP'] == '29.0'
    assert row['here: mmAP'] == '28.5'


def test_other_data_than_cocos_is_not_measured(rows):
    assert [row['here: mmAP'] for row in rows if row['here: mmAP']] == ['28.5']


def test_bccd_rows_take_the_last_speed_of_the_same_size_and_batch(tmp_path):
    (tmp_path / 'bccd_backbones.csv').write_text(
        'config,mAP,AP50\na_custom,0.5,0.8\nb_custom,0.4,0.7\n'
    )
    (tmp_path / 'detectors_cpu.csv').write_text(
        'config,part,input,batch,status,images_per_s\n'
        'a_custom,training step,480x360,4,ok,1.5\n'
        'a_custom,training step,480x360,4,ok,2.5\n'
        'a_custom,training step,480x360,8,ok,3.5\n'
        'a_custom,training step,600x400,4,ok,4.5\n'
        'a_custom,end to end,480x360,4,ok,5.5\n'
        'b_custom,end to end,480x360,4,out of memory,6.5\n'
    )
    first, second = bccd_rows(tmp_path)
    assert first == {
        'config': '[a_custom](configs/a_custom.py)',
        'mAP': '0.5',
        'AP50': '0.8',
        'training images/s': '2.5',
        'inference images/s': '5.5',
    }
    assert second['training images/s'] == second['inference images/s'] == ''
