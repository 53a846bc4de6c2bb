"""Pictures of what was found, one for each image of the test data."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
from mmdet.registry import HOOKS
from mmengine.fileio import get
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from ..data.images import decode_image

#: Formats that pictures can be written in.
SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp'}


def picture_name(image: Path | str) -> str:
    """The image's name, with a suffix that says how to write it."""
    known = Path(image).suffix.lower() in SUFFIXES
    return str(image) if known else f'{image}.png'


def literal_text() -> AbstractContextManager:
    """Draw names of classes as they are: a ``$`` opens no formula."""
    return matplotlib.rc_context({'text.parse_math': False})


def common_folder(dataset: Dataset) -> str:
    """The folder that all images of a data set are in or below.

    Args:
        dataset: Has ``get_data_info``, as OpenMMLab's data sets do.
    """
    paths = (dataset.get_data_info(i)['img_path'] for i in range(len(dataset)))
    folders = {os.path.dirname(os.path.abspath(path)) for path in paths}
    return os.path.commonpath(folders)


@HOOKS.register_module()
class PicturesHook(Hook):
    """Draw every test image; pictures lie in folders as their images do.

    The host's hooks call a picture by its image's last name, so images of
    one name in several folders would overwrite each other, and read a file
    otherwise than the network did.

    Args:
        out_dir: Where the pictures go.
        method: The visualizer's method that draws a sample.
        options: Its further arguments.
    """

    def __init__(self, out_dir: str, method: str, **options) -> None:
        self.out_dir, self.method, self.options = out_dir, method, options

    def before_test(self, runner: Runner) -> None:
        """Find out where the names of pictures start."""
        self._root = common_folder(runner.test_dataloader.dataset)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[BaseDataElement] = (),
    ) -> None:
        """Draw the samples of a batch."""
        draw = getattr(runner.visualizer, self.method)
        for sample in outputs:
            path = sample.img_path
            name = picture_name(os.path.relpath(path, self._root))
            image = decode_image(get(path), path, sample.ori_shape[:2])
            with literal_text():
                draw(
                    image=image[..., ::-1],
                    data_sample=sample,
                    out_file=os.path.join(self.out_dir, name),
                    **self.options,
                )
