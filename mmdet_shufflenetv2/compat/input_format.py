"""The input format that a network's weights expect.

Public weights were trained on RGB normalised with ImageNet's statistics, or on
plain BGR. The wrong input raises no error but gives useless features.
Therefore checkpoints store the format in their metadata, and it is compared
with the model's ``data_preprocessor``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from torch import nn

from .checkpoints import CheckpointError

META_KEY = 'input_format'


@dataclass(frozen=True)
class InputFormat:
    """Order, mean and scale of the channels.

    Attributes:
        channel_order: ``'RGB'`` or ``'BGR'``; also the order of mean and std.
        mean: subtracted from pixel values, which are 0 to 255.
        std: divides the difference.
    """

    channel_order: str
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        mean, std = (tuple(map(float, v)) for v in (self.mean, self.std))
        if self.channel_order not in ('RGB', 'BGR') or len(mean + std) != 6:
            raise ValueError(
                "expected a channel_order of 'RGB' or 'BGR' and 3 values of "
                f'mean and std, got {self.channel_order!r}, {mean}, {std}'
            )
        object.__setattr__(self, 'mean', mean)
        object.__setattr__(self, 'std', std)

    def __str__(self) -> str:
        order = 'BGR 0-255' if self == RAW_BGR else self.channel_order
        return f'{order}, mean={list(self.mean)}, std={list(self.std)}'

    def agrees_with(self, other: 'InputFormat') -> bool:
        """Whether both give a network the same input, up to rounding."""
        ours, theirs = self.mean + self.std, other.mean + other.std
        return self.channel_order == other.channel_order and np.allclose(
            ours, theirs, rtol=1e-3, atol=1e-3
        )

    def preprocessor_options(self, preprocessor: Mapping) -> dict:
        """The ``data_preprocessor`` arguments that produce this format.

        Args:
            preprocessor: Its config, of mmdet's type or mmpretrain's.
        """
        kind = preprocessor.get('type', '')
        is_mmpretrains = kind.endswith('ClsDataPreprocessor')
        flag = 'to_rgb' if is_mmpretrains else 'bgr_to_rgb'
        values = dict(mean=list(self.mean), std=list(self.std))
        return {flag: self.channel_order == 'RGB', **values}

    def cfg_options(self, preprocessor: Mapping) -> str:
        """`preprocessor_options` as a command line option."""
        options = self.preprocessor_options(preprocessor).items()
        return '--cfg-options ' + ' '.join(
            f'model.data_preprocessor.{key}="{value}"'
            for key, value in options
        )

    def to_meta(self) -> dict:
        """The dict stored in a checkpoint's metadata."""
        return asdict(self)


NORMALISED_RGB = InputFormat(
    'RGB', (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
)
NORMALISED_BGR = InputFormat(
    'BGR', NORMALISED_RGB.mean[::-1], NORMALISED_RGB.std[::-1]
)
SCALED_RGB = InputFormat('RGB', std=(255, 255, 255))
SCALED_BGR = InputFormat('BGR', std=(255, 255, 255))
RAW_RGB = InputFormat('RGB')
RAW_BGR = InputFormat('BGR')


def meta_of(checkpoint: object) -> Mapping:
    """A checkpoint's metadata; empty if it has none."""
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    return meta if isinstance(meta, Mapping) else {}


def declared_format(checkpoint: object, source: str) -> InputFormat | None:
    """The format stored in a checkpoint; None if there is none.

    Args:
        checkpoint: Its content.
        source: Its path, for messages.

    Raises:
        CheckpointError: The stored format is invalid.
    """
    stored = meta_of(checkpoint).get(META_KEY)
    if stored is None:
        return None
    try:
        return InputFormat(**stored)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f'meta.{META_KEY} of checkpoint {source!r}: expected '
            f'channel_order, mean and std, got {stored!r}'
        ) from error


def delivered_format(preprocessor: nn.Module | None) -> InputFormat | None:
    """The format that a data preprocessor feeds to the network.

    Assumes that images are read as BGR, as mmcv does. None if this kind of
    preprocessor does not expose its settings.
    """
    if not hasattr(preprocessor, '_enable_normalize'):
        return None
    to_rgb = getattr(preprocessor, 'to_rgb', False) or getattr(
        preprocessor, '_channel_conversion', False
    )
    order = 'RGB' if to_rgb else 'BGR'
    if not preprocessor._enable_normalize:
        return InputFormat(order)
    # The buffers are float32; recover the decimals of the config.
    mean, std = (
        tuple(round(value, 4) for value in buffer.flatten().tolist())
        for buffer in (preprocessor.mean, preprocessor.std)
    )
    return InputFormat(order, mean, std)


def require_same_input(
    source: str, declared: InputFormat | None, model: nn.Module
) -> None:
    """Raise unless a model's preprocessor matches what weights expect.

    Args:
        source: Path of the weights, for the message.
        declared: The format they expect; None if unknown.
        model: The model with the ``data_preprocessor``.

    Raises:
        CheckpointError: The formats differ; the message says what to set.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    delivered = delivered_format(preprocessor)
    if not declared or not delivered or declared.agrees_with(delivered):
        return
    kind = dict(type=type(preprocessor).__name__)
    raise CheckpointError(
        f'the weights of {source} expect images as {declared}, but '
        f"this config's data_preprocessor gives {delivered}; add\n  "
        + declared.cfg_options(kind)
    )
