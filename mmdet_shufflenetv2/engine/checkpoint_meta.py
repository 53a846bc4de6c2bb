"""What a checkpoint's meta data say, and ask of a config."""

from mmengine.config import Config
from mmengine.logging import print_log

from ..compat.input_format import InputFormat, declared_format, meta_of
from .run_config import set_image_size


def checkpoint_classes(checkpoint: dict) -> tuple[str, ...] | None:
    """Give the class names that training wrote into a checkpoint."""
    meta = meta_of(checkpoint).get('dataset_meta') or {}
    classes = meta.get('classes')
    return tuple(map(str, classes)) if classes else None


def adopt(cfg: Config, checkpoint: dict, source: str) -> None:
    """Let a config give a checkpoint's network the images it was trained on.

    Args:
        cfg: Changed in place: the data preprocessor and, where it says
            ``image_size_from_data``, the size.
        checkpoint: As loaded.
        source: Its path, for messages.
    """
    adopt_input_format(cfg, declared_format(checkpoint, source), source)
    size = meta_of(checkpoint).get('image_size')
    if size and cfg.get('image_size_from_data'):
        set_image_size(cfg, size)


def adopt_input_format(
    cfg: Config, expected: InputFormat | None, source: str
) -> None:
    """Let the data preprocessor deliver what a checkpoint expects.

    Args:
        cfg: Changed in place.
        expected: What it expects; None if that is not known.
        source: Its path, for the message.
    """
    preprocessor = cfg.model.get('data_preprocessor')
    if expected is None or preprocessor is None:
        return
    options = expected.preprocessor_options(preprocessor)
    if any(preprocessor.get(key) != options[key] for key in options):
        preprocessor.update(options)
        print_log(f'Images as {source} expects them: {expected}', 'current')
