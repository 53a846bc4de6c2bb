"""``model-index.yml``, as OpenMMLab's tools read it."""

from modelindex.load_model_index import load

from mmdet_shufflenetv2.paper.model_index import model_index


def test_every_detector_except_the_demos_is_listed_by_name(root):
    index = load(str(root / 'model-index.yml'))
    index.build_models_with_collections()
    assert not index.check_errors
    models = {model.name: model for model in index.models}
    assert {model.config for model in models.values()} == {
        path.relative_to(root).as_posix()
        for folder in ('configs', 'configs/light', 'configs/swap')
        for path in (root / folder).glob('*.py')
        if path.stem != 'pretrain'
    }
    # mim looks a config up by its name.
    assert all(m.config.endswith(f'/{name}.py') for name, m in models.items())
    model = models['lighthead_mobilenetv2_x0_6']
    assert model.metadata.data['Published box AP'] == 24.4
    assert model.full_model.metadata.training_data == 'COCO'
    assert model.full_model.paper['URL'] == 'https://arxiv.org/abs/1711.07264'


def test_results_are_those_measured_here(tmp_path, write, results):
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs/lighthead_mine.py').write_text(
        'model = dict(backbone=dict(type="Mine"))\n'
        'train_cfg = dict(max_epochs=30)\n'
    )
    run = dict(config='lighthead_mine', mAP='0.3712', epochs='')
    write('trained.csv', run | dict(data='COCO val2017'))
    write('bccd_backbones.csv', run | dict(mAP='0.5', epochs='3'))
    (model,) = model_index(tmp_path, results())['Models']
    found = {r['Dataset']: r['Metrics'] for r in model['Results']}
    assert found == {
        'COCO val2017': {'box AP': 37.1},
        'BCCD blood cells, 3 epochs': {'box AP': 50.0},
    }
