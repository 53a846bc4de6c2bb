import pytest
from mmdet.registry import TRANSFORMS

from mmdet_shufflenetv2.data import LoadImageStrict
from mmdet_shufflenetv2.engine import run_config, run_data
from mmdet_shufflenetv2.errors import UserError

MAIN = 'configs/lighthead_shufflenetv2.py'


@pytest.fixture
def cfg(root):
    return run_config.load_config(str(root / MAIN))


def test_packaged_config_is_meant_where_the_folder_has_none(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run_config.load_config(MAIN).model.type == 'LightHeadRCNN'
    (tmp_path / 'configs').mkdir()
    (tmp_path / MAIN).write_text("model = dict(type='Mine')")
    assert run_config.load_config(MAIN).model.type == 'Mine'


def test_absent_config_is_named():
    with pytest.raises(UserError, match='config not found: nowhere'):
        run_config.load_config('nowhere.py')


def test_configs_of_installed_packages_are_read():
    cfg = run_config.load_config(
        'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
    )
    assert cfg.model.type == 'RetinaNet'
    assert cfg.work_dir == 'work_dirs/retinanet_r50_fpn_1x_coco'


@pytest.mark.parametrize('path', ['mmdet::nowhere.py', 'mmnone::a.py'])
def test_absent_configs_of_packages_are_named(path):
    with pytest.raises(UserError, match=f'config not found: {path}'):
        run_config.load_config(path)


@pytest.mark.parametrize(
    'name, text, words',
    [
        ('a.py', 'x = 1\ny = x / 0\n', 'ZeroDivisionError at line 2: div'),
        ('a.py', 'model = dict(\n', 'SyntaxError: .* line 1'),
        ('a.py', "_base_ = 'absent.py'\n", 'FileNotFoundError: .*absent.py'),
        # Not run: what is imported in a config without `read_base` is lazy.
        (
            'a.py',
            "import os\nos.system('touch x')\n",
            'RuntimeError at line 2',
        ),
        ('a.txt', '', 'cannot be read .*py'),
        ('a.py', 'x = 1', 'it has no model'),
        ('a.json', '{"images": []}', 'it has no model'),
    ],
)
def test_a_file_that_is_no_config_is_told_as_such(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=words) as error:
        run_config.load_config(str(path))
    assert str(path) in str(error.value)


def test_options_and_work_dir_override_the_file(root):
    cfg = run_config.load_config(
        str(root / MAIN), {'model.neck.act_each': True}, 'elsewhere'
    )
    assert cfg.model.neck.act_each is True
    assert cfg.work_dir == 'elsewhere'


def test_option_that_nobody_reads_is_refused_with_what_is_like_it(root):
    with pytest.raises(UserError) as error:
        run_config.load_config(
            str(root / MAIN), {'train_dataloadr.batch_size': 4}
        )
    assert "'train_dataloadr' is neither" in str(error.value)
    assert "did you mean 'train_dataloader'?" in str(error.value)


def test_option_of_the_runner_that_the_config_lacks_is_taken(root):
    cfg = run_config.load_config(
        str(root / MAIN), {'randomness.deterministic': True}
    )
    assert cfg.randomness.deterministic is True


def test_work_dir_is_called_like_the_config(cfg):
    assert cfg.work_dir == 'work_dirs/lighthead_shufflenetv2'


def test_tools_read_images_strictly_and_configs_name_mmdets_loading(cfg):
    for name, dataset in run_data.datasets_of(cfg):
        loading = dataset.pipeline[0]
        assert loading.type == 'LoadImageFromFile', name
        assert isinstance(TRANSFORMS.build(loading), LoadImageStrict)


@pytest.mark.parametrize(
    'path, network',
    [
        (
            'configs/pretrain/shufflenetv2_star_x0_5.py',
            'shufflenet_v2_star_x0_5',
        ),
        ('configs/pretrain/mobilenetv2_x0_4.py', 'mobilenet_v2_x0_4'),
        ('configs/pretrain.py', 'shufflenet_v2_x1_0'),
    ],
)
def test_pretraining_configs_of_before_are_still_found(
    path, network, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run_config.load_config(path).model.network == network


@pytest.mark.parametrize('option', ['network', 'cfg_options'])
def test_a_network_brings_the_size_of_its_images(root, option):
    path = str(root / 'configs/pretrain.py')
    name = 'mobilenet_v2_x0_75'
    if option == 'network':
        cfg = run_config.load_config(path, network=name)
    else:
        cfg = run_config.load_config(path, {'model.network': name})
    assert cfg.model.network == name
    assert cfg.train_dataloader.dataset.pipeline[1].scale == 192
    for loader in cfg.val_dataloader, cfg.test_dataloader:
        resize, crop = loader.dataset.pipeline[1:3]
        assert (resize.scale, crop.crop_size) == (219, 192)


def test_an_unknown_network_is_named_with_those_like_it(root):
    with pytest.raises(UserError, match=r'such as shufflenet_v2.*shuflenet'):
        run_config.load_config(
            str(root / 'configs/pretrain.py'), network='shuflenet_v2'
        )
    with pytest.raises(UserError, match='does not take --network'):
        run_config.load_config(str(root / MAIN), network='resnet_50')


def test_no_worker_means_none_that_persists(root):
    cfg = run_config.load_config(
        str(root / MAIN), {'val_dataloader.num_workers': 0}
    )
    assert cfg.train_dataloader.persistent_workers
    assert not cfg.val_dataloader.persistent_workers


def test_folder_that_cannot_be_written_is_named_with_its_option():
    with pytest.raises(UserError) as error:
        run_config.require_writable('/proc/nothing', 'folder', '--out-dir')
    assert 'cannot write to the folder /proc/nothing' in str(error.value)
    assert '--out-dir' in str(error.value)
