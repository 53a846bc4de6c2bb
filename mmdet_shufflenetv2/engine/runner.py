"""mmengine's runner with strict checkpoints and support for CPU training."""

import os
import warnings
from contextlib import ExitStack
from unittest import mock

import torch
from mmdet.registry import RUNNERS
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed, is_main_process
from mmengine.hooks import EMAHook
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ..compat.atomic_files import remove_abandoned
from ..compat.checkpoints import CheckpointError
from ..compat.input_format import (
    META_KEY,
    delivered_format,
    require_same_input,
)
from ..compat.weight_formats import within
from ..data.table import shorten
from ..errors import UserError
from .early_log import write_kept_records
from .hooks import DivergenceHook, InputCheckHook
from .pictures import ValidationPlotsHook
from .run_config import checkpoint_classes, resizing
from .run_dir import last_of
from .weights import fitting


@RUNNERS.register_module()
class CheckedRunner(Runner):
    """A runner that rejects a checkpoint that does not fit its model.

    mmengine loads what matches and warns about the rest. Here a missing,
    unexpected or differently shaped entry is an error that names it. Without
    a GPU, several processes train through gloo.
    """

    #: Optional callable, applied to the model after its initialisation.
    start_from = None
    #: Training data, saved in checkpoints; see :func:`.run_dir.data_of`.
    trained_on: list[dict] | None = None

    def setup_env(self, env_cfg: dict) -> None:
        """Set up as mmengine does, reusing an existing process group."""
        # Adam's second moments of idle weights decay into denormal numbers,
        # on which a CPU is 100 times slower: 1.1 s of a 1.3 s step.
        torch.set_flush_denormal(get_device() != 'cuda')
        join_processes(self.launcher, self.cfg)
        super().setup_env(env_cfg)

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Open the log file; it starts with the records kept so far."""
        early = MMLogger.get_current_instance()
        logger = super().build_logger(*args, **kwargs)
        write_kept_records(early, logger.handlers)
        return logger

    def register_hooks(self, *args, **kwargs) -> None:
        """Register the config's hooks, and those that every run has."""
        super().register_hooks(*args, **kwargs)
        for hook in DivergenceHook(), InputCheckHook(), ValidationPlotsHook():
            self.register_hook(hook)

    def wrap_model(
        self, model_wrapper_cfg: dict | None, model: nn.Module
    ) -> nn.Module:
        """Wrap the model for several processes, on the CPU or on GPUs."""
        on_cpu = get_device() != 'cuda'
        if self.distributed and on_cpu and model_wrapper_cfg is None:
            unused = self.cfg.get('find_unused_parameters', False)
            model_wrapper_cfg = dict(
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=unused,
            )
        return super().wrap_model(model_wrapper_cfg, model)

    def train(self) -> nn.Module:
        """Train, after removing files that a killed run left incomplete."""
        if is_main_process():
            for path in remove_abandoned(self.work_dir):
                self.logger.info(f'Removed incomplete file: {path}')
        return super().train()

    def load_checkpoint(
        self, filename: str, map_location='cpu', strict=True, **kwargs
    ) -> dict:
        """Check the file against the model, then load it strictly."""
        model = self._bare_model()
        checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
        checkpoint = fitting(model, checkpoint, filename)
        # mmengine executes this entry as Python code when it resumes.
        checkpoint['meta'].pop('config', None)
        # Must precede loading: EMAHook saves the averaged weights under
        # `state_dict` and swaps them for the trained ones here.
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        has_ema = any(isinstance(hook, EMAHook) for hook in self.hooks)
        if self._resume and not has_ema:
            # Continue from the trained weights, not from the averaged ones.
            trained = within(checkpoint.get('ema_state_dict') or {}, 'module.')
            checkpoint['state_dict'].update(trained)
        model.load_state_dict(checkpoint['state_dict'])
        self._has_loaded = True
        self.logger.info(f'Loaded checkpoint {filename}')
        return checkpoint

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Resume from a checkpoint that holds the complete state of a run.

        mmengine silently accepts less, and then restarts the optimizer and
        the learning rate schedule.
        """
        if self._load_from is None:
            filename = last_of(self.work_dir) or filename
        checkpoint = CheckpointLoader.load_checkpoint(filename, 'cpu')
        # The best checkpoint is saved without optimizer and schedulers.
        wanted = ['meta', 'message_hub', 'optimizer']
        if self.param_schedulers is not None:
            wanted.append('param_schedulers')
        missing = [part for part in wanted if part not in checkpoint]
        if missing:
            raise CheckpointError(
                f'{filename} lacks {", ".join(missing)}, so it cannot be '
                'resumed; resume from an epoch_N.pth, or start a new run from '
                f"its weights: --cfg-options load_from='{filename}'"
            )
        known = checkpoint_classes(checkpoint)
        meta = getattr(self.train_dataloader.dataset, 'metainfo', {})
        classes = meta.get('classes')
        if known and classes and known != tuple(classes):
            raise CheckpointError(
                f'{filename} was trained on the classes {shorten(known)}, in '
                f'this order, but the data has {shorten(classes)}; start a '
                'new run from its weights with --from'
            )
        planned = self._plan()
        groups = [dict(group) for group in self.optim_wrapper.param_groups]
        super().resume(filename, *args, **kwargs)
        self._find_best_checkpoint()
        if isinstance(self.train_loop, EpochBasedTrainLoop):
            # With another batch size, an epoch has another number of steps.
            self.train_loop._iter = self.epoch * len(self.train_dataloader)
        if self._plan() != planned:
            for group, own in zip(
                self.optim_wrapper.param_groups, groups, strict=True
            ):
                group.update(own, params=group['params'])
            self._follow_new_schedule()
        if self.iter >= self.max_iters:
            self.logger.warning(
                f'{filename} already has all {self.max_iters} iterations; to '
                'train longer, set --epochs N'
            )

    def _find_best_checkpoint(self) -> None:
        """Look for the best checkpoint so far in the work dir only.

        mmengine stores its absolute path: in a copied run, or one resumed in
        another folder, it would later delete the file of the first run.
        """
        known = self.message_hub.runtime_info
        for name in [name for name in known if name.startswith('best_ckpt')]:
            path = os.path.join(self.work_dir, os.path.basename(known[name]))
            if os.path.isfile(path):
                self.message_hub.update_info(name, path)
            else:
                del known[name]
                known.pop(name.replace('ckpt', 'score'), None)

    def _plan(self) -> list[list]:
        """Settings of the optimizer and the schedulers, not their state."""
        names = 'begin', 'end', 'T_max', 'milestones', 'total_iters', 'gamma'
        schedule = [
            [getattr(scheduler, name, None) for name in names]
            for scheduler in self.param_schedulers or ()
        ]
        names = 'momentum', 'betas', 'weight_decay'
        groups = [
            [g.get('initial_lr', g['lr']), *map(g.get, names)]
            for g in self.optim_wrapper.param_groups
        ]
        return schedule + groups

    def _follow_new_schedule(self) -> None:
        """Set the learning rates that the config has for this iteration.

        mmengine restores the checkpoint's settings instead: the learning rate
        and the length of the earlier run.
        """
        for group in self.optim_wrapper.param_groups:
            group['lr'] = group.get('initial_lr', group['lr'])
        self.param_schedulers = self.build_param_scheduler(
            self.cfg.get('param_scheduler') or []
        )
        epoch_length = len(self.train_dataloader)
        with warnings.catch_warnings():
            # PyTorch warns because the optimizer has made no steps yet.
            warnings.simplefilter('ignore')
            for step in range(1, self.iter + 1):
                for scheduler in self.param_schedulers:
                    if not scheduler.by_epoch or step % epoch_length == 0:
                        scheduler.step()
        rate = self.optim_wrapper.get_lr()['lr'][0]
        self.logger.info(
            'The run has a new length, batch size or learning rate; the '
            f'learning rate continues at {rate:.3g}'
        )

    def save_checkpoint(self, *args, meta: dict | None = None, **kwargs):
        """Save as mmengine does, with input and data in the metadata."""
        model = self._bare_model()
        backbone = getattr(model, 'backbone', None)
        own = dict(style=getattr(backbone, 'style', None))
        own['trained_on'] = self.trained_on
        delivered = delivered_format(getattr(model, 'data_preprocessor', None))
        if delivered:
            own[META_KEY] = delivered.to_meta()
        if 'image_size_from_data' in self.cfg:
            own['image_size'] = list(resizing(self.cfg, 'test')[0].scale)
        super().save_checkpoint(*args, meta={**own, **(meta or {})}, **kwargs)

    def _init_model_weights(self) -> None:
        """Initialise, and check that the backbone gets its expected input."""
        super()._init_model_weights()
        model = self._bare_model()
        backbone = getattr(model, 'backbone', None)
        expected = getattr(backbone, 'expected_input', None)
        require_same_input("the backbone's init_cfg", expected, model)
        if self.start_from and not self._resume:
            self.start_from(model)

    def _bare_model(self) -> nn.Module:
        return getattr(self.model, 'module', self.model)


def join_processes(launcher: str, cfg: Config) -> None:
    """Join the processes of a run, through gloo if it uses no GPU."""
    if launcher == 'none' or is_distributed():
        return
    options = dict((cfg.get('env_cfg') or {}).get('dist_cfg') or {})
    if launcher == 'mpi' and 'MASTER_ADDR' not in os.environ:
        names = 'OMPI_COMM_WORLD_LOCAL_SIZE', 'OMPI_COMM_WORLD_SIZE'
        if len({os.environ.get(name) for name in names}) > 1:
            raise UserError(
                'mpirun on several machines: name the first one with '
                '-x MASTER_ADDR=HOST'
            )
        os.environ['MASTER_ADDR'] = '127.0.0.1'
    with ExitStack() as stack:
        if get_device() != 'cuda':
            options['backend'] = 'gloo'
            # mmengine gives each process a GPU, whatever the backend.
            stack.enter_context(mock.patch('torch.cuda.set_device'))
        init_dist(launcher, **options)
