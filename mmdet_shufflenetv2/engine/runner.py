"""mmengine's runner, strict about checkpoints and at home on the CPU."""

import os

import torch
from mmdet.registry import RUNNERS
from mmengine.dist import is_distributed, is_main_process
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ..backbones.pretrained import current_names, declared_style
from ..compat.atomic_files import remove_abandoned
from ..compat.input_format import (
    META_KEY,
    declared_format,
    delivered_format,
    require_same_input,
)
from ..data.table import shorten
from .divergence import DivergenceHook
from .early_log import write_kept_records


class CheckpointMismatch(ValueError):
    """A checkpoint that does not hold exactly the model's parameters."""


@RUNNERS.register_module()
class CheckedRunner(Runner):
    """A runner that refuses a checkpoint which does not fit its model.

    mmengine loads what matches and warns about the rest. Here a missing,
    unexpected or differently shaped entry is an error that names it. Two
    processes on a machine without GPU train through gloo.
    """

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Open the log file; it begins with what was said before."""
        early = MMLogger.get_current_instance()
        logger = super().build_logger(*args, **kwargs)
        write_kept_records(early, logger)
        return logger

    def register_hooks(self, *args, **kwargs) -> None:
        """Register a config's hooks, and the one that no run is without."""
        super().register_hooks(*args, **kwargs)
        self.register_hook(DivergenceHook())

    def load_checkpoint(
        self, filename: str, map_location='cpu', strict=True, **kwargs
    ) -> dict:
        """Check the file against the model, then load it.

        Args:
            filename: Path of the checkpoint.
            map_location: Device of the loaded tensors.
            strict: Kept for mmengine's callers; loading is always strict.
            kwargs: As in mmengine.

        Returns:
            The checkpoint.

        Raises:
            CheckpointMismatch: If it does not fit; says which entries.
        """
        checkpoint = load_fitting(self._bare_model(), filename)
        # mmengine runs this entry as Python code when it resumes.
        checkpoint.get('meta', {}).pop('config', None)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        self._has_loaded = True
        self.logger.info(f'Loaded checkpoint {filename}')
        return checkpoint

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Go on from a checkpoint that holds the whole state of a run.

        mmengine goes on from less, with a new optimizer and the learning
        rate of a first epoch, and says nothing.

        Args:
            filename: Path of the checkpoint.
            args, kwargs: As in mmengine.

        Raises:
            CheckpointMismatch: If it lacks a part of the state.
        """
        if self._load_from is None:
            # Of the last checkpoint mmengine notes the absolute path, but a
            # work dir may be moved or copied.
            here = os.path.join(self.work_dir, os.path.basename(filename))
            filename = here if os.path.isfile(here) else filename
        checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
        # The best checkpoint is stored without the last two.
        wanted = ['meta', 'message_hub', 'optimizer']
        if self.param_schedulers is not None:
            wanted.append('param_schedulers')
        missing = [part for part in wanted if part not in checkpoint]
        if missing:
            raise CheckpointMismatch(
                f'{filename} lacks {", ".join(missing)}, so a run cannot go '
                'on from it; resume from an epoch_N.pth, or start anew from '
                f"its weights: --cfg-options load_from='{filename}'"
            )
        super().resume(filename, *args, **kwargs)

    def train(self) -> nn.Module:
        """Train; what a killed run left half written is removed first."""
        if is_main_process():
            for path in remove_abandoned(self.work_dir):
                self.logger.info(f'Removed what a killed run left: {path}')
        return super().train()

    def save_checkpoint(self, *args, meta: dict | None = None, **kwargs):
        """Save as mmengine does, with what the weights expect of images."""
        model = self._bare_model()
        backbone = getattr(model, 'backbone', None)
        own = dict(style=getattr(backbone, 'style', None))
        delivered = delivered_format(getattr(model, 'data_preprocessor', None))
        if delivered:
            own[META_KEY] = delivered.to_meta()
        super().save_checkpoint(*args, meta={**own, **(meta or {})}, **kwargs)

    def _init_model_weights(self) -> None:
        """Initialise; pretrained weights have to get the images they expect.

        Raises:
            CheckpointError: If ``data_preprocessor`` gives them others.
        """
        super()._init_model_weights()
        model = self._bare_model()
        backbone = getattr(model, 'backbone', None)
        expected = getattr(backbone, 'expected_input', None)
        require_same_input("the backbone's init_cfg", expected, model)

    def _bare_model(self) -> nn.Module:
        return getattr(self.model, 'module', self.model)

    def setup_env(self, env_cfg: dict) -> None:
        """Join the process group through gloo where there is no GPU."""
        no_gpu = not torch.cuda.is_available()
        # Adam's second moments of idle weights decay into denormal numbers,
        # on which a CPU is 100 times slower: 1.1 s of a 1.3 s step.
        torch.set_flush_denormal(no_gpu)
        if self.launcher == 'pytorch' and no_gpu and not is_distributed():
            torch.distributed.init_process_group('gloo')
        super().setup_env(env_cfg)

    def wrap_model(
        self, model_wrapper_cfg: dict | None, model: nn.Module
    ) -> nn.Module:
        """Wrap for several processes; on the CPU without device ids."""
        if (
            self.distributed
            and model_wrapper_cfg is None
            and not torch.cuda.is_available()
        ):
            model_wrapper_cfg = dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get(
                    'find_unused_parameters', False
                ),
            )
        return super().wrap_model(model_wrapper_cfg, model)


def load_fitting(model: nn.Module, filename: str) -> dict:
    """Load a checkpoint that holds exactly the model's entries.

    Args:
        model: Receives the weights.
        filename: Path of the checkpoint.

    Returns:
        The checkpoint, with its ``meta``.

    Raises:
        CheckpointMismatch: If it does not fit; says which entries.
        CheckpointError: If it expects other images than the model gives.
    """
    checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
    state = checkpoint.get('state_dict', checkpoint)
    state = {
        key.removeprefix('module.'): value for key, value in state.items()
    }
    state = current_names(model, state)
    problems = _other_style(checkpoint, model) + mismatches(model, state)
    if problems:
        if not state.keys() & model.state_dict().keys():
            problems.append(
                'no entry has a name that the model knows; '
                'tools/convert_checkpoint.py converts weights of other '
                'projects'
            )
        classes = checkpoint.get('meta', {}).get('dataset_meta', {})
        classes = classes.get('classes')
        if classes:
            problems.append(
                f'the checkpoint knows {len(classes)} classes: '
                + shorten(classes)
            )
        raise CheckpointMismatch(
            f'{filename} does not fit the model of this config:\n  '
            + '\n  '.join(problems)
        )
    require_same_input(filename, declared_format(checkpoint, filename), model)
    model.load_state_dict(state)
    return checkpoint


def _other_style(checkpoint: dict, model: nn.Module) -> list[str]:
    """Two styles of a network may have the same shapes."""
    declared = declared_style(checkpoint)
    own = getattr(getattr(model, 'backbone', None), 'style', None)
    if declared is None or own is None or declared == own:
        return []
    return [
        f'it is of style {declared!r}, but the backbone of {own!r}; add '
        f'--cfg-options model.backbone.style={declared}'
    ]


def mismatches(model: nn.Module, state: dict, most: int = 5) -> list[str]:
    """Describe where a state dict differs from a model's.

    Args:
        model: Has the wanted entries.
        state: Has the entries that came.
        most: How many of each kind are named.

    Returns:
        A sentence for each kind of difference; empty if there is none.
    """
    wanted = model.state_dict()
    kinds = {
        'missing in the checkpoint': [k for k in wanted if k not in state],
        'unknown to the model': [k for k in state if k not in wanted],
        'of another shape': [
            f'{k} (checkpoint {tuple(state[k].shape)}, '
            f'model {tuple(wanted[k].shape)})'
            for k in wanted
            if k in state and state[k].shape != wanted[k].shape
        ],
    }
    return [
        f'{len(keys)} {kind}: '
        + ', '.join(keys[:most])
        + (', ...' if len(keys) > most else '')
        for kind, keys in kinds.items()
        if keys
    ]
