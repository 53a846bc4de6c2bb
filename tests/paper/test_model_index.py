"""``model-index.yml``, as OpenMMLab's tools read it."""

import csv
import shutil

import pytest
import yaml
from modelindex.load_model_index import load

from mmdet_shufflenetv2.paper.model_index import model_index


@pytest.fixture(scope='module')
def metafiles(root) -> list[dict]:
    index = yaml.safe_load((root / 'model-index.yml').read_text())
    return [
        yaml.safe_load((root / path).read_text()) for path in index['Import']
    ]


@pytest.fixture(scope='module')
def models(metafiles) -> list[dict]:
    return [model for each in metafiles for model in each['Models']]


def test_names_are_unique(metafiles, models):
    names = [model['Name'] for model in models]
    assert len(names) == len(set(names))
    collections = [c['Name'] for f in metafiles for c in f['Collections']]
    assert len(collections) == len(set(collections))


def test_every_detector_but_the_demos_is_listed_and_nothing_else(root, models):
    there = {
        path.relative_to(root).as_posix()
        for folder in ('configs', 'configs/swap')
        for path in (root / folder).glob('*.py')
    }
    assert {model['Config'] for model in models} == there
    for model in models:
        # mim looks a config up by its name.
        assert model['Config'].endswith(f'/{model["Name"]}.py')


def test_models_are_of_collections_that_there_are(metafiles):
    for each in metafiles:
        names = {collection['Name'] for collection in each['Collections']}
        assert {model['In Collection'] for model in each['Models']} == names


def test_the_reader_of_mim_finds_models_and_inherits(root):
    index = load(str(root / 'model-index.yml'))
    index.build_models_with_collections()
    assert not index.check_errors
    found = {model.name: model for model in index.models}
    model = found['lighthead_mobilenetv2_x0_6']
    assert model.metadata.data['Published box AP'] == 24.4
    assert not list(model.results)
    paper = model.full_model.paper
    assert paper['URL'] == 'https://arxiv.org/abs/1711.07264'
    assert model.full_model.metadata.training_data == 'COCO'


def test_results_are_those_measured_here(root, with_runs, tmp_path):
    name = 'lighthead_resnet101'
    configs = tmp_path / 'configs'
    configs.mkdir()
    shutil.copy(root / f'configs/{name}.py', configs)
    shutil.copytree(root / 'configs/_base_', configs / '_base_')
    index = model_index(tmp_path, with_runs((name, 'COCO val2017', 0.3712)))
    (model,) = index['Models']
    assert model['Metadata'] == dict(Epochs=20)
    assert model['Results'] == [
        dict(
            Task='Object Detection',
            Dataset='COCO val2017',
            Metrics={'box AP': 37.1},
        )
    ]


def test_every_run_of_the_readme_is_a_result_of_its_model(models, root):
    found = {model['Name']: model['Results'] for model in models}
    names = set()
    with open(root / 'results' / 'bccd_backbones.csv', newline='') as file:
        for run in csv.DictReader(file):
            result = dict(
                Task='Object Detection',
                Dataset=f'BCCD blood cells, {run["epochs"]} epochs',
                Metrics={'box AP': round(100 * float(run['mAP']), 1)},
            )
            assert result in found[run['config']]
            names.add(run['config'])
    assert names
