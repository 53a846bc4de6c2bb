"""What importing the package changes in a process, and what it does not."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

PREPARE = """
import sys, warnings

def hide(*names):
    for name in names:
        sys.modules[name] = None

def ours_is_in():
    from mmdet.registry import MODELS
    return 'mmdet_shufflenetv2' in MODELS.get('mmdet.ShuffleNetV2').__module__
"""


def python(code: str, root, **environment: str) -> str:
    """What a fresh process prints; its error when it fails."""
    done = subprocess.run(
        [sys.executable, '-c', PREPARE + textwrap.dedent(code)],
        cwd=root,
        env={**os.environ, 'PYTHONPATH': str(root), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_importing_changes_only_what_mmdet_needs(root):
    python(
        """
        import os
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
        assert [f for f in warnings.filters if 'pkg_resources' in str(f)]
        assert not [name for name in os.environ if 'WEIGHTS_ONLY' in name]
        """,
        root,
    )


def test_applying_all_patches_again_changes_nothing():
    from mmcv.image import geometric
    from mmdet.models.dense_heads import SSDHead
    from mmengine.fileio.backends import backends
    from mmengine.runner import CheckpointLoader, checkpoint

    from mmdet_shufflenetv2 import compat

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


@pytest.mark.parametrize(
    'first',
    [
        'import mmpretrain, mmpretrain.models',
        'from mmengine.utils import import_modules_from_strings as imports\n'
        "imports(['mmpretrain.models', 'mmdet_shufflenetv2'])",
    ],
)
def test_any_order_of_imports_works(root, first):
    if 'mmpretrain' in first:
        pytest.importorskip('mmpretrain')
    python(
        f'{first}\nimport mmdet_shufflenetv2, mmdet.models\n'
        'from mmdet.utils import register_all_modules\n'
        'register_all_modules()\nassert ours_is_in()\n'
        'from mmdet.models.layers import transformer\n'
        'from mmcv.cnn.bricks import transformer as mmcvs\n'
        'assert mmcvs.MultiScaleDeformableAttention',
        root,
    )


def test_without_mmdet_the_package_imports_and_its_rooms_say_what_to_do(root):
    said = python(
        """
        hide('mmdet')
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
        try:
            mmdet_shufflenetv2.backbones
        except ImportError as error:
            print(error)
        """,
        root,
    )
    assert said.count('mmdet not installed: this package extends') == 4
    assert said.count('pip install torch torchvision mmdet==3.3.0') == 4


def test_a_system_without_fcntl_imports_and_writes(root, tmp_path):
    python(
        f"""
        hide('fcntl', 'resource', 'termios', 'pwd', 'grp')
        import mmdet_shufflenetv2
        from mmdet_shufflenetv2 import compat
        from mmdet_shufflenetv2.compat.atomic_files import whole_file
        compat.apply_tool_patches()
        with whole_file({str(tmp_path / 'file')!r}, 'w') as file:
            file.write('content')
        """,
        root,
    )
    assert (tmp_path / 'file').read_text() == 'content'


@pytest.fixture
def transformers_5(tmp_path):
    """Stubs of transformers as 5.x is, installed for a fresh process."""
    pytest.importorskip('mmpretrain')
    info = tmp_path / 'transformers-5.24.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(
        'Metadata-Version: 2.1\nName: transformers\nVersion: 5.24.0\n'
    )
    package = tmp_path / 'transformers'
    for folder in ('', 'models', 'models/auto'):
        (package / folder).mkdir()
        (package / folder / '__init__.py').touch()
    (package / '__init__.py').write_text(
        'def __getattr__(name):\n    return type(name, (), {})\n'
    )
    (package / 'models' / 'auto' / 'auto_factory.py').write_text(
        'class _BaseAutoModelClass: pass\n'
    )
    # Its apply_chunking_to_forward, of which mmpretrain is built, is gone.
    (package / 'modeling_utils.py').write_text('class PreTrainedModel: pass\n')
    return tmp_path


def test_mmpretrain_beside_transformers_5_is_survived(root, transformers_5):
    path = os.pathsep.join((str(root), str(transformers_5)))
    code = 'from mmpretrain.models import *\nimport mmdet.models'
    python(
        'import mmdet_shufflenetv2\n' + code + '\nassert ours_is_in()',
        root,
        PYTHONPATH=path,
    )


def test_youtube_vis_results_are_accumulated():
    """mmdet's evaluator asks for np.float, which NumPy 1.24 dropped."""
    import numpy as np
    from mmdet.evaluation.functional import YTVIS, YTVISeval

    mask = np.zeros((8, 8), np.uint8, order='F')
    mask[2:6, 2:6] = 1
    from pycocotools.mask import encode

    track = [encode(mask), encode(mask)]
    truth = YTVIS()
    truth.dataset = dict(
        videos=[dict(id=1, height=8, width=8, length=2)],
        categories=[dict(id=1, name='a')],
        annotations=[
            dict(
                id=1,
                video_id=1,
                category_id=1,
                segmentations=track,
                areas=[16, 16],
                bboxes=[[2, 2, 4, 4]] * 2,
                iscrowd=0,
                height=8,
                width=8,
            )
        ],
    )
    truth.createIndex()
    found = truth.loadRes(
        [dict(video_id=1, category_id=1, score=0.9, segmentations=track)]
    )
    evaluation = YTVISeval(truth, found, 'segm')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


@pytest.mark.parametrize('size', [(2, 3000), (3000, 2)])
def test_a_long_image_keeps_a_pixel_of_its_short_side(size):
    import mmcv
    import numpy as np

    from mmdet_shufflenetv2.compat import apply_tool_patches

    apply_tool_patches()
    image = mmcv.imrescale(np.zeros((*size, 3), np.uint8), (480, 360))
    assert min(image.shape[:2]) == 1
    assert max(image.shape[:2]) == 480
    assert mmcv.rescale_size((640, 480), 0.5) == (320, 240)


def test_mmcvs_sync_batch_norm_is_torchs():
    """Four configs of mmdet name it; mmcv's own is of compiled ops."""
    from mmengine.registry import MODELS

    norm = MODELS.build(dict(type='MMSyncBN', num_features=4, eps=1e-3))
    assert isinstance(norm, torch.nn.SyncBatchNorm)
    assert norm.eps == 1e-3
