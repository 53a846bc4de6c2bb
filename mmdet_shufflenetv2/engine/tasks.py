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

# By the scope in which a config's types are looked up.
TASKS = {'mmdet': detectors, 'mmpretrain': classifiers}


def kind_of(cfg: Config) -> ModuleType:
    """The task of a config, whatever the command line."""
    return TASKS.get(cfg.get('default_scope'), detectors)


def task_of(cfg: Config, args: Namespace) -> ModuleType:
    """The task of a config; the arguments have to fit it.

    Args:
        cfg: The config.
        args: The command line; ``eval`` gets its default.

    Raises:
        UserError: If an argument is for the other task.
    """
    task = kind_of(cfg)
    given = [
        f'--{name.removesuffix("_checkpoint").replace("_", "-")}'
        for name in task.NOT_FOR_IT
        if getattr(args, name, None) not in (None, False)
    ]
    checkpoint = getattr(args, 'checkpoint', '')
    if task is classifiers and checkpoint.endswith('.json'):
        given.append(checkpoint)
    if given:
        raise UserError(
            f'{args.config} is a {task.MODEL}, which {", ".join(given)} is '
            'not for'
        )
    if hasattr(args, 'eval'):
        args.eval = args.eval or [task.EVAL_WORDS[0]]
        wrong = [word for word in args.eval if word not in task.EVAL_WORDS]
        if wrong:
            raise UserError(
                f'{args.config} is a {task.MODEL}, for which --eval takes '
                f'{" ".join(task.EVAL_WORDS)}, got {" ".join(wrong)}'
            )
    return task
