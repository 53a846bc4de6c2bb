"""What the tools can do: a module for detectors, one for classifiers.

Both have ``MODEL`` (what messages call the model), ``EVAL_WORDS`` (of
``--eval``, the first being the default), ``NOT_FOR_IT`` (options that mean
something for the other alone), ``DUMP`` (the metric of ``--out``), and the
functions ``use_data_root, adopt_classes, check_data, metrics, drawing``.
"""

from argparse import Namespace
from types import ModuleType

from mmengine.config import Config

from ..errors import UserError
from . import classifiers, detectors


def kind_of(cfg: Config) -> ModuleType:
    """The task of a config, by the scope that its types are looked up in."""
    scope = cfg.get('default_scope')
    return classifiers if scope == 'mmpretrain' else detectors


def task_of(cfg: Config, args: Namespace) -> ModuleType:
    """The task of a config; the arguments have to fit it.

    Args:
        cfg: The config.
        args: The command line; ``eval`` gets its default.

    Raises:
        UserError: An argument is for the other task.
    """
    task = kind_of(cfg)
    wrong = [
        f'--{name.removesuffix("_checkpoint").replace("_", "-")}'
        for name in task.NOT_FOR_IT
        if getattr(args, name, None) not in (None, False)
    ]
    checkpoint = getattr(args, 'checkpoint', '')
    if task is classifiers and checkpoint.endswith('.json'):
        wrong.append(checkpoint)
    if hasattr(args, 'eval'):
        args.eval = args.eval or [task.EVAL_WORDS[0]]
        words = set(args.eval) - set(task.EVAL_WORDS)
        wrong += [f'--eval {word}' for word in sorted(words)]
    if wrong:
        raise UserError(
            f'{args.config} is a {task.MODEL}, which {", ".join(wrong)} is '
            f'not for; --eval takes {" ".join(task.EVAL_WORDS)}'
        )
    return task
