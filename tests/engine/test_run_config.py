"""How a config is found, read, changed by options and by a checkpoint."""

import pytest

from mmdet_shufflenetv2.compat.input_format import NORMALISED_RGB, RAW_BGR
from mmdet_shufflenetv2.engine import run_config
from mmdet_shufflenetv2.errors import UserError

MAIN = 'configs/lighthead_shufflenetv2.py'
CUSTOM = 'configs/lighthead_shufflenetv2_custom.py'
PRETRAIN = 'configs/pretrain.py'


def test_configs_are_found_here_in_the_package_and_in_others(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    load = run_config.load_config
    assert load(MAIN).model.type == 'LightHeadRCNN'
    (tmp_path / 'configs').mkdir()
    (tmp_path / MAIN).write_text("model = dict(type='Mine')")
    assert load(MAIN).model.type == 'Mine'
    cfg = load('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    assert cfg.model.type == 'RetinaNet'
    assert cfg.work_dir == 'work_dirs/retinanet_r50_fpn_1x_coco'
    for path in 'nowhere.py', 'mmdet::nowhere.py', 'mmnone::a.py':
        with pytest.raises(UserError, match=f'config not found: {path}'):
            load(path)


@pytest.mark.parametrize(
    'name, text, words',
    [
        ('a.py', 'model = dict(\n', 'SyntaxError: .* line 1'),
        # Not run: what is imported in a config without `read_base` is lazy.
        ('a.py', "import os\nos.system('touch x')\n", 'RuntimeError'),
        ('a.json', '{"images": []}', 'it has no model'),
    ],
)
def test_a_file_that_is_no_config_is_told_as_such(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=words) as error:
        run_config.load_config(str(path))
    assert str(path) in str(error.value)


def test_options_override_the_file(load):
    # The second is of the runner, and not in the config.
    options = {'model.neck.act_each': True, 'randomness.deterministic': True}
    cfg = load(MAIN, options | {'val_dataloader.num_workers': 0})
    assert cfg.model.neck.act_each is True
    assert cfg.randomness.deterministic is True
    # No worker means none that persists.
    assert cfg.train_dataloader.persistent_workers
    assert not cfg.val_dataloader.persistent_workers
    with pytest.raises(UserError, match='similar names: train_dataloader'):
        load(MAIN, {'train_dataloadr.batch_size': 4})


@pytest.mark.parametrize('expected', [NORMALISED_RGB, RAW_BGR], ids=str)
@pytest.mark.parametrize(
    'path, flag', [(PRETRAIN, 'to_rgb'), (CUSTOM, 'bgr_to_rgb')]
)
def test_images_follow_the_checkpoint(load, path, flag, expected):
    cfg = load(path)
    meta = dict(input_format=expected.to_meta(), image_size=[320, 256])
    run_config.adopt(cfg, dict(meta=meta), 'x.pth')
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor[flag] == (expected is NORMALISED_RGB)
    assert preprocessor.mean == list(expected.mean)
    assert preprocessor.std == list(expected.std)
    if path == CUSTOM:
        (step,) = run_config.resizing(cfg, 'test')
        assert step.scale == (320, 256)
