"""mmengine's runner, strict about checkpoints and at home on the CPU."""

import os
import warnings

import torch
from mmdet.registry import RUNNERS
from mmengine.config import Config
from mmengine.dist import init_dist, is_distributed, is_main_process
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop, Runner
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
from ..errors import UserError
from .divergence import DivergenceHook
from .early_log import write_kept_records
from .input_check import InputCheckHook
from .pictures import RunPicturesHook


class CheckpointMismatch(UserError):
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

    #: Called with the model once it is initialised, in the place of a
    #: checkpoint to load.
    start_from = None

    def load_or_resume(self) -> None:
        """Load what the run starts from or goes on with."""
        if self.start_from is not None and not self._resume:
            if not self._has_loaded:
                self.start_from(self._bare_model())
                self._has_loaded = True
            return
        super().load_or_resume()

    def register_hooks(self, *args, **kwargs) -> None:
        """Register a config's hooks, and those that no run is without."""
        super().register_hooks(*args, **kwargs)
        self.register_hook(DivergenceHook())
        self.register_hook(InputCheckHook())
        self.register_hook(RunPicturesHook())

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
        model = self._bare_model()
        checkpoint = read_fitting(model, filename)
        # mmengine runs this entry as Python code when it resumes.
        checkpoint['meta'].pop('config', None)
        # Before the model gets its weights: what EMAHook saves under
        # `state_dict` are the averaged ones, and it exchanges them here.
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model.load_state_dict(checkpoint['state_dict'])
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
                'on from it; resume from an epoch_N.pth, or start a new run '
                f"from its weights: --cfg-options load_from='{filename}'"
            )
        planned = schedules_of(self)
        super().resume(filename, *args, **kwargs)
        if schedules_of(self) != planned:
            self._follow_new_schedule()
        loop = self.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        done, whole, unit = (
            (loop.epoch, loop.max_epochs, 'epochs')
            if by_epoch
            else (loop.iter, loop.max_iters, 'iterations')
        )
        if done >= whole:
            self.logger.warning(
                f'{filename} has {done} {unit} of {whole}: nothing is left to '
                f'train; a longer run: train_cfg.max_{unit}=N'
            )

    def _follow_new_schedule(self) -> None:
        """Bring the rates to where the config's schedule has them by now.

        mmengine restores the stored schedule, which ends where the run
        before was to end.
        """
        for group in self.optim_wrapper.param_groups:
            group['lr'] = group['initial_lr']
        self.param_schedulers = self.build_param_scheduler(
            self.cfg.param_scheduler
        )
        epoch_length = len(self.train_dataloader)
        with warnings.catch_warnings():
            # PyTorch misses the optimizer's steps, which lie before.
            warnings.simplefilter('ignore')
            for step in range(1, self.iter + 1):
                for scheduler in self.param_schedulers:
                    if not scheduler.by_epoch or step % epoch_length == 0:
                        scheduler.step()
        self.logger.info(
            'The run has another length or schedule than before; the learning '
            f'rate goes on at {self.optim_wrapper.get_lr()["lr"][0]:.3g}'
        )

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
        """Set up as mmengine does; the process group may exist already."""
        # Adam's second moments of idle weights decay into denormal numbers,
        # on which a CPU is 100 times slower: 1.1 s of a 1.3 s step.
        torch.set_flush_denormal(not torch.cuda.is_available())
        join_processes(self.launcher, self.cfg)
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


def join_processes(launcher: str, cfg: Config) -> None:
    """Join the other processes of a run, through gloo where there is no GPU.

    Args:
        launcher: What started them; ``'none'`` for a run of one process.
        cfg: ``env_cfg.dist_cfg`` is as mmengine takes it.
    """
    if launcher == 'none' or is_distributed():
        return
    options = dict((cfg.get('env_cfg') or {}).get('dist_cfg') or {})
    if not torch.cuda.is_available():
        if launcher == 'pytorch':
            # mmengine would give each process a GPU.
            torch.distributed.init_process_group('gloo')
            return
        options['backend'] = 'gloo'
    init_dist(launcher, **options)


def schedules_of(runner: Runner) -> list[dict]:
    """The settings of a runner's schedulers, without their progress."""
    schedulers = runner.param_schedulers or []
    if not isinstance(schedulers, list) or 'param_scheduler' not in runner.cfg:
        return []
    settings = 'begin', 'end', 'T_max', 'milestones', 'total_iters', 'gamma'
    return [
        {k: getattr(each, k) for k in settings if hasattr(each, k)}
        for each in schedulers
    ]


def load_fitting(model: nn.Module, filename: str) -> dict:
    """Load a checkpoint that holds exactly the model's entries.

    Args, Returns, Raises: as :func:`read_fitting`; the model receives the
        weights.
    """
    checkpoint = read_fitting(model, filename)
    model.load_state_dict(checkpoint['state_dict'])
    return checkpoint


def read_fitting(model: nn.Module, filename: str) -> dict:
    """Read a checkpoint that holds exactly the model's entries.

    Args:
        model: Whose weights it should be; stays as it is.
        filename: Path of the checkpoint.

    Returns:
        The checkpoint, with ``state_dict`` and ``meta``.

    Raises:
        CheckpointMismatch: If it does not fit; says which entries.
        CheckpointError: If it expects other images than the model gives.
    """
    checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
    if 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint)
    checkpoint.setdefault('meta', {})
    state = checkpoint['state_dict'] = _renamed(
        model, checkpoint['state_dict']
    )
    averaged = checkpoint.get('ema_state_dict')
    if averaged:
        steps = {k: v for k, v in averaged.items() if k == 'steps'}
        rest = {k: v for k, v in averaged.items() if k != 'steps'}
        checkpoint['ema_state_dict'] = steps | {
            f'module.{k}': v for k, v in _renamed(model, rest).items()
        }
    problems = _other_style(checkpoint, model) + mismatches(model, state)
    if problems:
        if not state.keys() & model.state_dict().keys():
            problems.append(
                'no entry has a name that the model knows; '
                'tools/convert_checkpoint.py converts weights of other '
                'projects'
            )
        classes = checkpoint['meta'].get('dataset_meta', {}).get('classes')
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
    return checkpoint


def _renamed(model: nn.Module, state: dict) -> dict:
    """Entries by the names that they have today, without a wrapper's."""
    bare = {key.removeprefix('module.'): v for key, v in state.items()}
    return current_names(model, bare)


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
