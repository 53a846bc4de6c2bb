import pytest
from mmengine.config import Config

from mmdet_shufflenetv2.engine import run_config, run_data
from mmdet_shufflenetv2.engine.run_config import UsageError

MAIN = 'configs/lighthead_shufflenetv2.py'


@pytest.fixture
def cfg(root):
    return run_config.load_config(str(root / MAIN))


def test_absent_config_is_named():
    with pytest.raises(UsageError, match='config not found: nowhere'):
        run_config.load_config('nowhere.py')


def test_configs_of_installed_packages_are_read():
    cfg = run_config.load_config(
        'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
    )
    assert cfg.model.type == 'RetinaNet'
    assert cfg.work_dir == 'work_dirs/retinanet_r50_fpn_1x_coco'


@pytest.mark.parametrize('path', ['mmdet::nowhere.py', 'mmnone::a.py'])
def test_absent_configs_of_packages_are_named(path):
    with pytest.raises(UsageError, match=f'config not found: {path}'):
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
    with pytest.raises(UsageError, match=words) as error:
        run_config.load_config(str(path))
    assert str(path) in str(error.value)


def test_options_and_work_dir_override_the_file(root):
    cfg = run_config.load_config(
        str(root / MAIN), {'model.neck.act_each': True}, 'elsewhere'
    )
    assert cfg.model.neck.act_each is True
    assert cfg.work_dir == 'elsewhere'


def test_option_that_nobody_reads_is_refused_with_what_is_like_it(root):
    with pytest.raises(UsageError) as error:
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


def test_tools_read_images_strictly_and_files_name_mmdets_loading(root, cfg):
    stored = Config.fromfile(root / MAIN)
    for name, dataset in run_data.datasets_of(stored):
        assert dataset.pipeline[0].type == 'LoadImageFromFile', name
    for name, dataset in run_data.datasets_of(cfg):
        assert dataset.pipeline[0].type == 'mmdet.LoadImageStrict', name


def test_folder_that_cannot_be_written_is_named_with_its_option():
    with pytest.raises(UsageError) as error:
        run_config.require_writable('/proc/nothing', 'folder', '--out-dir')
    assert 'cannot write to the folder /proc/nothing' in str(error.value)
    assert '--out-dir' in str(error.value)
