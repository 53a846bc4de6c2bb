"""What detectors and classifiers need of the tools, side by side."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass

from mmengine.config import Config, ConfigDict

from . import classification, run_data
from .evaluation import coco_metrics
from .run_config import UsageError


@dataclass(frozen=True)
class Task:
    """How the tools treat the configs of one kind.

    Attributes:
        model: what the config's model is called in messages.
        eval_words: what ``--eval`` may ask for; the first is the default.
        needs_coco: options that only mean something with COCO's format.
        use_data_root: points a config to the folder of the arguments.
        adopt_classes: gives a config a checkpoint's classes.
        check_data: checks what the named splits read.
        metrics: configs of the metrics for words and a prefix of files.
        dump: type of the metric behind ``--out``.
        drawing: the hook behind ``--show-dir``, for a folder and a score.
    """

    model: str
    eval_words: tuple[str, ...]
    needs_coco: tuple[str, ...]
    use_data_root: Callable[[Config, Namespace], None]
    adopt_classes: Callable[[Config, dict], None]
    check_data: Callable[[Config, tuple[str, ...], Namespace], None]
    metrics: Callable[[Config, list[str], str | None], list[ConfigDict]]
    dump: str
    drawing: Callable[[str, float], dict]


COCO_OPTIONS = (
    'train_ann',
    'train_img',
    'val_ann',
    'val_img',
    'on_bad_boxes',
    'json',
)

DETECTION = Task(
    model='detector',
    eval_words=('bbox', 'proposal'),
    needs_coco=(),
    use_data_root=lambda cfg, args: run_data.use_data_root(
        cfg, **run_data.data_names(args)
    ),
    adopt_classes=run_data.adopt_classes,
    check_data=lambda cfg, splits, args: run_data.check_data(
        cfg, splits, args.on_bad_boxes == 'error'
    ),
    metrics=lambda cfg, words, prefix: coco_metrics(
        cfg.test_evaluator, words, prefix
    ),
    dump='DumpDetResults',
    drawing=lambda folder, score_thr: dict(
        type='PicturesHook',
        out_dir=folder,
        method='add_datasample',
        name='',
        pred_score_thr=score_thr,
    ),
)
CLASSIFICATION = Task(
    model='classifier',
    eval_words=('error',),
    needs_coco=COCO_OPTIONS,
    use_data_root=lambda cfg, args: classification.use_data_root(
        cfg, args.data_root
    ),
    adopt_classes=classification.adopt_classes,
    check_data=lambda cfg, splits, args: classification.check_data(
        cfg, splits
    ),
    metrics=lambda cfg, words, prefix: classification.error_metrics(
        cfg, words
    ),
    dump='DumpResults',
    drawing=lambda folder, score_thr: dict(
        type='mmdet.PicturesHook',
        out_dir=folder,
        method='visualize_cls',
        resize=224,
    ),
)
# By the scope in which a config's types are looked up.
TASKS = {'mmdet': DETECTION, 'mmpretrain': CLASSIFICATION}


def kind_of(cfg: Config) -> Task:
    """The task of a config, whatever the command line."""
    return TASKS.get(cfg.get('default_scope'), DETECTION)


def task_of(cfg: Config, args: Namespace) -> Task:
    """The task of a config; the arguments have to fit it.

    Args:
        cfg: The config.
        args: The command line; ``eval`` gets its default.

    Raises:
        UsageError: If an argument is for the other task.
    """
    task = kind_of(cfg)
    given = [
        f'--{name.replace("_", "-")}'
        for name in task.needs_coco
        if getattr(args, name, None) is not None
    ]
    checkpoint = getattr(args, 'checkpoint', '')
    if task.needs_coco and checkpoint.endswith(('.json', '.pkl', '.pickle')):
        given.append(checkpoint)
    if given:
        raise UsageError(
            f'{args.config} is a {task.model}; {", ".join(given)} is for '
            'detectors and data in COCO format'
        )
    if hasattr(args, 'eval'):
        args.eval = args.eval or [task.eval_words[0]]
        wrong = [word for word in args.eval if word not in task.eval_words]
        if wrong:
            raise UsageError(
                f'--eval {" ".join(wrong)} cannot be had of {args.config}, '
                f'a {task.model}; --eval {" ".join(task.eval_words)} can'
            )
    return task


def all_eval_words() -> list[str]:
    """What ``--eval`` may ask for, whatever the config."""
    return [word for task in TASKS.values() for word in task.eval_words]
