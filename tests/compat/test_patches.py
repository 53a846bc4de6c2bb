"""What importing the package changes in a process, and what not."""

import os
import sys
import textwrap

import mmcv
import numpy as np
import pytest
import torch
from commands import ROOT, python
from mmcv.image import geometric
from mmdet.evaluation.functional import YTVIS, YTVISeval
from mmdet.models.dense_heads import SSDHead
from mmengine.fileio.backends import backends
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader, checkpoint
from pycocotools.mask import encode

from mmdet_shufflenetv2 import compat


def run(code: str, *path) -> str:
    """The output of code in a new process with ``path`` on its path."""
    path = os.pathsep.join(map(str, (ROOT, *path)))
    return python('-c', textwrap.dedent(code), PYTHONPATH=path)


@pytest.fixture
def transformers_5(tmp_path):
    """Stubs of transformers 5, installed for a new process."""
    pytest.importorskip('mmpretrain')
    info = tmp_path / 'transformers-5.24.0.dist-info'
    package = tmp_path / 'transformers'
    auto = package / 'models' / 'auto'
    for folder in info, package, package / 'models', auto:
        folder.mkdir()
        (folder / '__init__.py').touch()
    (info / 'METADATA').write_text(
        'Metadata-Version: 2.1\nName: transformers\nVersion: 5.24.0\n'
    )
    (package / '__init__.py').write_text(
        'def __getattr__(name):\n    return type(name, (), {})\n'
    )
    (auto / 'auto_factory.py').write_text('class _BaseAutoModelClass: pass\n')
    # It lacks apply_chunking_to_forward, which mmpretrain uses.
    (package / 'modeling_utils.py').write_text('class PreTrainedModel: pass\n')
    return tmp_path


def test_importing_changes_only_what_mmdet_needs(transformers_5):
    """Beside transformers 5, and on a system without fcntl."""
    path = transformers_5 / 'file'
    run(
        f"""
        import os, sys, warnings
        for name in 'fcntl', 'resource', 'termios', 'pwd', 'grp':
            sys.modules[name] = None
        import mmengine.hooks.checkpoint_hook as hook
        from mmcv.image import geometric
        from mmengine.fileio.backends import backends
        hosts = backends['local'], geometric._scale_size

        import mmdet_shufflenetv2
        from mmdet_shufflenetv2 import compat

        assert not [f for f in warnings.filters if 'pkg_resources' in str(f)]
        assert hosts == (backends['local'], geometric._scale_size)
        assert 'open' not in vars(hook)
        assert sys.modules['mmcv._ext']

        compat.apply_tool_patches()
        assert hosts[0] is not backends['local']
        assert hosts[1] is not geometric._scale_size
        assert not [name for name in os.environ if 'WEIGHTS_ONLY' in name]
        with compat.atomic_files.whole_file({str(path)!r}, 'w') as file:
            file.write('content')

        from mmpretrain.models import *
        import mmdet.models
        from mmdet.registry import MODELS
        ours = MODELS.get('mmdet.ShuffleNetV2')
        assert 'mmdet_shufflenetv2' in ours.__module__
        """,
        transformers_5,
    )
    assert path.read_text() == 'content'


def test_mmpretrain_may_be_imported_first():
    pytest.importorskip('mmpretrain')
    run(
        """
        from mmengine.utils import import_modules_from_strings
        import_modules_from_strings(
            ['mmpretrain.models', 'mmdet_shufflenetv2']
        )
        from mmdet.utils import register_all_modules
        register_all_modules()
        from mmdet.registry import MODELS
        ours = MODELS.get('mmdet.ShuffleNetV2')
        assert 'mmdet_shufflenetv2' in ours.__module__
        from mmdet.models.layers import transformer
        from mmcv.cnn.bricks import transformer as mmcvs
        assert mmcvs.MultiScaleDeformableAttention
        """
    )


def test_without_mmdet_subpackages_say_what_to_install():
    said = run(
        """
        import sys, warnings
        sys.modules['mmdet'] = None
        warnings.simplefilter('ignore')
        import mmdet_shufflenetv2
        assert mmdet_shufflenetv2.__version__
        from mmdet_shufflenetv2.ops import ps_roi_align
        from mmdet_shufflenetv2.compat.atomic_files import whole_file
        for room in 'backbones', 'detection', 'engine':
            try:
                __import__(f'mmdet_shufflenetv2.{room}')
            except ImportError as error:
                print(error)
        """
    )
    assert said.count('mmdet not installed: this package extends') == 3
    assert said.count('pip install torch torchvision mmdet==3.3.0') == 3


def test_applying_all_patches_again_changes_nothing():
    def state() -> tuple:
        return (
            sys.modules['mmcv._ext'],
            list(sys.meta_path),
            dict(CheckpointLoader._schemes),
            dict(backends),
            (checkpoint.torch, checkpoint.load_url, geometric._scale_size),
            SSDHead.loss_cls,
        )

    compat.apply_patches()
    compat.apply_tool_patches()
    before = state()
    compat.apply_patches()
    compat.apply_tool_patches()
    assert state() == before


def test_youtube_vis_results_are_accumulated():
    """mmdet's evaluator uses np.float, which NumPy 1.24 dropped."""
    mask = np.zeros((8, 8), np.uint8, order='F')
    mask[2:6, 2:6] = 1
    size = dict(height=8, width=8)
    track = dict(video_id=1, category_id=1, segmentations=[encode(mask)] * 2)
    boxes = dict(areas=[16, 16], bboxes=[[2, 2, 4, 4]] * 2, iscrowd=0)
    truth = YTVIS()
    truth.dataset = dict(
        videos=[dict(id=1, length=2, **size)],
        categories=[dict(id=1, name='a')],
        annotations=[dict(id=1, **track, **boxes, **size)],
    )
    truth.createIndex()
    found = truth.loadRes([dict(track, score=0.9)])
    evaluation = YTVISeval(truth, found, 'segm')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


@pytest.mark.parametrize('size', [(2, 3000), (3000, 2)])
def test_the_short_side_of_a_long_image_keeps_a_pixel(size):
    compat.apply_tool_patches()
    image = mmcv.imrescale(np.zeros((*size, 3), np.uint8), (480, 360))
    assert sorted(image.shape[:2]) == [1, 480]
    assert mmcv.rescale_size((640, 480), 0.5) == (320, 240)


def test_mmcvs_sync_batch_norm_is_torchs():
    """Four configs of mmdet use it; mmcv's own needs compiled ops."""
    norm = MODELS.build(dict(type='MMSyncBN', num_features=4, eps=1e-3))
    assert isinstance(norm, torch.nn.SyncBatchNorm)
    assert norm.eps == 1e-3
