"""Draw detections, and plot how they differ from the ground truth."""

import csv
import io
import json
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from inspect import signature
from pathlib import Path

import matplotlib
import mmcv
import numpy as np
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation.metrics import coco_metric
from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.fileio import get
from mmengine.hooks import Hook
from mmengine.runner import Runner
from pycocotools.cocoeval import COCOeval
from torchvision.utils import draw_bounding_boxes

from ..data import BoxMetric
from ..data.dataset import coco_api
from ..data.images import decode_image
from ..data.table import BoxTable
from ..errors import UserError

#: Image formats that can be written.
SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp'}
#: Above this number of classes, plots leave out names and counts.
FEW = 20
COLOURS = [to_hex(colour) for colour in matplotlib.colormaps['tab20'].colors]
# Only newer releases of torchvision have this option.
FILLED = {'fill_labels'} & {*signature(draw_bounding_boxes).parameters}
# Draw class names literally: a $ does not start a formula.
LITERAL = {'text.parse_math': False}


def picture_name(image: Path | str) -> str:
    """The image's name, with .png appended if its format is not writable."""
    known = Path(image).suffix.lower() in SUFFIXES
    return str(image) if known else f'{image}.png'


def draw_boxes(
    image: np.ndarray, boxes: Sequence, labels: list[int], texts: list[str]
) -> np.ndarray:
    """Draw labelled boxes (n, 4), x1, y1, x2, y2, on a copy of an image.

    The image is uint8 RGB (H, W, 3). Labels select the colours.
    """
    if not labels:
        return image.copy()
    size = max(image.shape[:2])
    drawn = draw_bounding_boxes(
        torch.from_numpy(image.transpose(2, 0, 1).copy()),
        torch.as_tensor(np.asarray(boxes, np.float32)),
        texts,
        [COLOURS[label % len(COLOURS)] for label in labels],
        width=max(2, size // 400),
        font=findfont('DejaVu Sans'),
        font_size=max(10, size // 50),
        **dict.fromkeys(FILLED, True),
    )
    return drawn.permute(1, 2, 0).numpy()


def save_plots(
    folder: str, table: BoxTable, results: str, score_thr: float = 0.3
) -> None:
    """Plot where a detector is right and where it is wrong.

    Writes ``per_class.csv`` (AP as COCO defines it), ``pr_curves.png`` (at
    an IoU of 0.5), ``confusion_matrix.png`` and ``worst_images.jpg``.

    Args:
        folder: Output folder.
        table: Ground truth, with the detector's classes.
        results: COCO results file.
        score_thr: Lowest score of the boxes that the last two files count.
    """
    if not len(table.boxes):
        raise UserError('no plots: the ground truth has no boxes')
    folder, names = Path(folder), _names(table)
    with redirect_stdout(io.StringIO()), matplotlib.rc_context(LITERAL):
        truth = coco_api(table)
        every, found = (_found(truth, results, x) for x in (0, score_thr))
        coco_eval = coco_metric.COCOeval(truth, every, 'bbox')
        coco_eval.params.catIds = [*names]
        coco_eval.evaluate()
        coco_eval.accumulate()
        _show_classes(folder, coco_eval, names)
        matrix, errors = compare(truth, found, [*names])
        _plot_matrix(folder / 'confusion_matrix.png', matrix, names)
        path = folder / 'worst_images.jpg'
        _draw_worst(path, table, truth, found, errors, names)


def draw_results(
    folder: str, table: BoxTable, results: str, score_thr: float
) -> None:
    """Draw every image twice, with its true boxes and with those found.

    Arguments are those of :func:`save_plots`. A picture has the path of its
    image, relative to the images' common parent folder.
    """
    if not all(table.files):
        raise UserError('no pictures: the metric needs img_dir to find images')
    names, paths = _names(table), [*map(os.path.abspath, table.files)]
    root = os.path.commonpath([*map(os.path.dirname, paths)])
    with redirect_stdout(io.StringIO()):
        truth = coco_api(table)
        found = _found(truth, results, score_thr)
    for index, path in enumerate(paths):
        drawn = _draw_pair(table, index, truth, found, names)[..., ::-1]
        name = picture_name(os.path.relpath(path, root))
        mmcv.imwrite(drawn, os.path.join(folder, name))


def _names(table: BoxTable) -> dict[int, str]:
    """Class names by category id, which is sorted as in pycocotools."""
    numbers = table.category_ids.tolist()
    return dict(sorted(zip(numbers, table.classes, strict=True)))


def _found(truth: COCO, results: str, score_thr: float) -> COCO:
    """Read the results that have at least this score."""
    records = json.loads(Path(results).read_text())
    records = [each for each in records if each['score'] >= score_thr]
    # pycocotools cannot read an empty list.
    return truth.loadRes(records) if records else COCO()


def _show_classes(folder: Path, coco_eval: COCOeval, names: dict) -> None:
    """Write a table row and draw a precision-recall curve for each class."""
    # (IoU, recall, class, area, boxes per image); -1 without ground truth.
    precision = coco_eval.eval['precision'][..., 0, -1]
    recall = coco_eval.eval['recall'][..., 0, -1]
    rows = [['class', 'boxes', 'AP', 'AP50', 'AP75', 'AR']]
    figure = Figure(figsize=(7, 6), layout='constrained')
    axes = figure.subplots()
    for place, (number, name) in enumerate(names.items()):
        boxes = coco_eval.cocoGt.getAnnIds(catIds=[number], iscrowd=False)
        own = precision[..., place]
        values = own, own[0], own[5], recall[:, place]
        shown = [f'{v.mean():.4f}' if v.max() > -1 else '' for v in values]
        rows.append([name, len(boxes), *shown])
        if own[0].max() > -1:
            axes.plot(
                *(coco_eval.params.recThrs, own[0]),
                color=COLOURS[place % len(COLOURS)],
                label=f'{name} {own[0].mean():.3f}',
            )
    path = folder / 'per_class.csv'
    with path.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows(rows)
    if 0 < len(axes.lines) <= FEW:
        axes.legend(title='AP50', fontsize='small')
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    figure.savefig(folder / 'pr_curves.png', dpi=120)


def compare(
    truth: COCO, found: COCO, cat_ids: list[int]
) -> tuple[np.ndarray, dict[int, tuple[int, int]]]:
    """Match true and found boxes at an IoU of 0.5, ignoring classes.

    Returns:
        Counts by true (row) and found (column) class, with "none" last, and
        for each image the numbers of wrong boxes and of all boxes.
    """
    coco_eval = COCOeval(truth, found, 'bbox')
    params = coco_eval.params
    params.useCats, params.catIds = 0, cat_ids
    params.iouThrs, params.maxDets = np.array([0.5]), [1000]
    params.areaRng, params.areaRngLbl = [[0, 1e10]], ['all']
    coco_eval.evaluate()
    none = len(cat_ids)

    def classes(api: COCO, boxes: np.ndarray) -> list[int]:
        # Ids count from 1; 0 means no match.
        anns = [api.anns.get(int(box)) for box in boxes]
        return [cat_ids.index(a['category_id']) if a else none for a in anns]

    matrix, errors = np.zeros((none + 1, none + 1), int), {}
    for image in filter(None, coco_eval.evalImgs):
        counted = image['dtIgnore'][0] == 0
        missed = image['gtMatches'][0] + image['gtIgnore'] == 0
        boxes = np.array(image['gtIds'], int)[missed]
        rows = classes(truth, [*image['dtMatches'][0][counted], *boxes])
        boxes = np.array(image['dtIds'], int)[counted]
        columns = classes(found, [*boxes, *[0] * sum(missed)])
        np.add.at(matrix, (rows, columns), 1)
        wrong = int(np.not_equal(rows, columns).sum())
        errors[image['image_id']] = wrong, len(rows)
    return matrix, errors


def _plot_matrix(path: Path, matrix: np.ndarray, names: dict) -> None:
    names, few = [*names.values(), 'none'], len(names) < FEW
    side = min(4 + 0.4 * len(names), 24)
    figure = Figure(figsize=(side, side), layout='constrained')
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(share, 'Blues', vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel='found', ylabel='true', title='number of boxes')
    for (row, column), count in np.ndenumerate(matrix) if few else ():
        colour = 'white' if share[row, column] > 0.5 else 'black'
        axes.text(column, row, count, ha='center', va='center', color=colour)
    figure.savefig(path, dpi=120)


def _draw_worst(
    path: Path, table: BoxTable, truth: COCO, found: COCO, errors, names
) -> None:
    """Draw the images with the largest share of wrong boxes, true | found."""
    wrong = [number for number, (count, _) in errors.items() if count]
    wrong.sort(key=lambda i: (-np.divide(*errors[i]), -errors[i][0]))
    rows = min(max(len(wrong), 1), 8)
    figure = Figure(figsize=(14, 5 * rows), layout='constrained')
    grid = figure.subplots(rows, squeeze=False).flat
    numbers = table.image_ids.tolist()
    for number, axes in zip(wrong, grid, strict=False):
        index = numbers.index(number)
        axes.imshow(_draw_pair(table, index, truth, found, names))
        name = Path(table.files[index]).name
        axes.set_title('{}: {} of {} wrong'.format(name, *errors[number]))
        axes.axis('off')
    figure.savefig(path, dpi=80)


def _draw_pair(
    table: BoxTable, index: int, truth: COCO, found: COCO, names: dict
) -> np.ndarray:
    """Draw an image in RGB, true | found; one that is broken is black."""
    file, size = table.files[index], table.shape(index)
    try:
        image = decode_image(get(file), file, size, table.source.exif)
    except (UserError, OSError):
        image = np.zeros((*size, 3), np.uint8)
    pair = []
    for api in truth, found:
        boxes, labels, texts = [], [], []
        for each in api.imgToAnns[int(table.image_ids[index])]:
            x, y, width, height = each['bbox']
            boxes.append([x, y, x + width, y + height])
            labels.append([*names].index(each['category_id']))
            score = f' {each["score"]:.2f}' if 'score' in each else ''
            texts.append(names[each['category_id']] + score)
        pair.append(draw_boxes(image[..., ::-1], boxes, labels, texts))
    return np.hstack(pair)


@HOOKS.register_module()
class ValidationPlotsHook(Hook):
    """Call :func:`save_plots` for the best validation after training.

    The detections of that validation are kept as ``best.bbox.json``.
    """

    priority, metric = 'LOWEST', None

    def before_val(self, runner: Runner) -> None:
        """Let the box metric save the detections that it evaluates."""
        for metric in runner.val_evaluator.metrics:
            if isinstance(metric, BoxMetric) and not metric.outfile_prefix:
                self.metric = metric
                metric.outfile_prefix = os.path.join(runner.work_dir, 'last')

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Keep the detections if ``CheckpointHook`` calls this the best."""
        last = Path(runner.work_dir, 'last.bbox.json')
        best = runner.message_hub.get_info('best_score')
        if self.metric and is_main_process() and last.is_file():
            if best is None or best in metrics.values():
                last.replace(last.with_name('best.bbox.json'))
            last.unlink(missing_ok=True)

    def after_train(self, runner: Runner) -> None:
        """Draw the plots; an error must not fail the finished run."""
        results = Path(runner.work_dir, 'best.bbox.json')
        if not self.metric or not is_main_process() or not results.is_file():
            return
        try:
            save_plots(runner.work_dir, self.metric.table, results)
        except Exception as error:
            runner.logger.warning(f'No plots of the validation: {error!r}')
        else:
            runner.logger.info(f'AP per class and plots: {runner.work_dir}')
