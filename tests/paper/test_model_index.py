"""``model-index.yml``, as OpenMMLab's tools read it."""

import pytest
from modelindex.load_model_index import load

from mmdet_shufflenetv2.paper.model_index import model_index


@pytest.fixture(scope='module')
def models(root):
    index = load(str(root / 'model-index.yml'))
    index.build_models_with_collections()
    assert not index.check_errors
    return {model.name: model for model in index.models}


def test_every_detector_but_the_demos_is_listed_by_its_name(root, models):
    there = {
        path.relative_to(root).as_posix()
        for folder in ('configs', 'configs/light', 'configs/swap')
        for path in (root / folder).glob('*.py')
        if path.stem != 'pretrain'
    }
    assert {model.config for model in models.values()} == there
    for name, model in models.items():
        # mim looks a config up by its name.
        assert model.config.endswith(f'/{name}.py')


def test_a_model_inherits_from_its_collection(models):
    model = models['lighthead_mobilenetv2_x0_6']
    assert model.metadata.data['Published box AP'] == 24.4
    assert not list(model.results)
    paper = model.full_model.paper
    assert paper['URL'] == 'https://arxiv.org/abs/1711.07264'
    assert model.full_model.metadata.training_data == 'COCO'


def test_results_are_those_measured_here(tmp_path, write, results):
    name = 'lighthead_mine'
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs' / f'{name}.py').write_text(
        'model = dict(backbone=dict(type="Mine"))\n'
        'train_cfg = dict(max_epochs=30)\n'
    )
    run = dict(config=name, data='COCO val2017', mAP='0.3712', epochs='')
    write.plain('trained.csv', run)
    write.plain('bccd_backbones.csv', dict(config=name, mAP='0.5', epochs='3'))
    (model,) = model_index(tmp_path, results())['Models']
    found = [(r['Dataset'], r['Metrics']) for r in model['Results']]
    assert found == [
        ('COCO val2017', {'box AP': 37.1}),
        ('BCCD blood cells, 3 epochs', {'box AP': 50.0}),
    ]
