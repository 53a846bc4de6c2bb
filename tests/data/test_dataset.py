"""Data set and metric of configs, compared with those of mmdet."""

import json

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, METRICS
from mmengine.structures import InstanceData
from PIL import Image

from mmdet_shufflenetv2.data.dataset import (
    class_list,
    config_source,
    dataset_config,
    metric_config,
)
from mmdet_shufflenetv2.data.table import DatasetError, Source


def build(kind, ann_file, img_dir, classes=None, **options):
    if classes is not None:
        options['metainfo'] = dict(classes=classes)
    return DATASETS.build(
        dict(
            type=kind,
            ann_file=str(ann_file),
            data_prefix=dict(img=str(img_dir)),
            pipeline=[dict(type='LoadImageFromFile')],
            **options,
        )
    )


def records(dataset):
    return [
        {
            key: dataset.get_data_info(i)[key]
            for key in ('img_path', 'img_id', 'height', 'width', 'instances')
        }
        for i in range(len(dataset))
    ]


@pytest.mark.real_data
def test_real_coco_gives_the_records_of_mmdets_data_set(real_data):
    root = real_data / 'coco_mini'
    paths = (
        root / 'annotations/instances_val2017.json',
        root / 'val2017',
    )
    filters = dict(filter_cfg=dict(filter_empty_gt=True, min_size=32))
    ours = build('BoxDataset', *paths, **filters)
    theirs = build('CocoDataset', *paths, **filters)
    expected = records(theirs)
    for record in expected:
        for instance in record['instances']:
            del instance['mask']
    assert records(ours) == expected
    assert ours.metainfo['classes'] == theirs.metainfo['classes']


@pytest.mark.parametrize('convert', [dataset_config, metric_config])
@pytest.mark.parametrize('images', [('a',), ('a', 'b')])
def test_source_and_config_are_converted_to_each_other(convert, images):
    more = ('list.txt',), 'ignore', ('train', 0.2, 1)
    source = Source('YOLO', 'data.yaml', images, *more)
    assert config_source(convert(source)) == source


def test_class_lists_are_accepted_in_every_form(tmp_path):
    names = tmp_path / 'names.txt'
    names.write_text('\ufeffcat\r\ndog\n', 'utf-8')
    assert class_list(dict(classes=['cat', 'dog'])) == ('cat', 'dog')
    assert class_list(dict(classes=str(names))) == ('cat', 'dog')
    # ('ship') is a string, whose letters once became the classes.
    assert class_list(dict(classes='ship')) == ('ship',)
    assert class_list({}) is class_list(None) is None
    with pytest.raises(DatasetError, match=r"'CLASSES'.*expected 'classes'"):
        class_list(dict(CLASSES=('cat',)))


def test_stored_pixels_are_loaded_in_any_pipeline(coco):
    exif = Image.Exif()
    exif[0x112] = 6
    for image in coco.data['images']:
        image['file_name'] = image['file_name'].replace('png', 'jpg')
        del image['width'], image['height']
        path = coco.img_dir / image['file_name']
        Image.new('RGB', (40, 30)).save(path, exif=exif)
    coco.save()
    for option, shape in ('ignore', (30, 40)), ('apply', (40, 30)):
        dataset = build('BoxDataset', coco.ann_file, coco.img_dir, exif=option)
        assert dataset[0]['img_shape'] == shape


def test_filter_that_leaves_no_image_is_an_error(coco):
    coco.data['images'][0].update(width=20)
    coco.write()
    with pytest.raises(DatasetError, match='3 of the 3 images'):
        build(
            'BoxDataset',
            coco.ann_file,
            coco.img_dir,
            filter_cfg=dict(min_size=31),
        )
    left = build(
        'BoxDataset', coco.ann_file, coco.img_dir, filter_cfg=dict(min_size=30)
    )
    assert len(left) == 2
    coco.data['images'] = []
    coco.write()
    with pytest.raises(DatasetError, match='no usable image'):
        build('BoxDataset', coco.ann_file, coco.img_dir)


def truth_as_predictions(dataset):
    samples = []
    for record in records(dataset):
        found = [each for each in record['instances']]
        instances = InstanceData(
            bboxes=torch.tensor([e['bbox'] for e in found]).reshape(-1, 4),
            labels=torch.tensor([e['bbox_label'] for e in found], dtype=int),
            scores=torch.ones(len(found)),
        )
        samples.append(
            dict(
                pred_instances=instances,
                img_id=record['img_id'],
                ori_shape=(record['height'], record['width']),
            )
        )
    return samples


def measure(metric, classes, samples, **options):
    metric = METRICS.build(dict(type=metric, **options))
    metric.dataset_meta = dict(classes=classes)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('first_id', [0, 100])
def test_true_boxes_score_one_whatever_the_ids(coco, first_id):
    """pycocotools ignores matches with annotation id 0."""
    for number, ann in enumerate(coco.data['annotations']):
        ann['id'] = first_id + number
    coco.save()
    dataset = build('BoxDataset', coco.ann_file, coco.img_dir)
    numbers = measure(
        'BoxMetric',
        dataset.metainfo['classes'],
        truth_as_predictions(dataset),
        ann_file=str(coco.ann_file),
    )
    assert numbers['coco/bbox_mAP'] == 1.0


@pytest.mark.parametrize('found', [('dog', 'cat'), ('cat',)])
def test_true_boxes_score_one_in_another_order_of_classes(coco, found):
    """mmdet's metric numbers labels in the order of the file's categories."""
    classes = ('dog', 'bird', 'cat')
    dataset = build('BoxDataset', coco.ann_file, coco.img_dir, classes)
    samples = truth_as_predictions(dataset)
    labels = torch.tensor([classes.index(name) for name in found])
    for sample in samples:
        boxes = sample['pred_instances']
        sample['pred_instances'] = boxes[torch.isin(boxes.labels, labels)]
    numbers = measure(
        'BoxMetric',
        classes,
        samples,
        ann_file=str(coco.ann_file),
        img_dir=str(coco.img_dir),
        classwise=True,
    )
    assert numbers['coco/cat_precision'] == 1.0
    assert numbers['coco/dog_precision'] == float('dog' in found)
    assert numbers['coco/bbox_mAP'] == len(found) / 2


@pytest.mark.real_data
def test_real_coco_metrics_equal_those_of_mmdets_metric(real_data):
    root = real_data / 'coco_mini'
    ann_file = root / 'annotations/instances_val2017.json'
    dataset = build('BoxDataset', ann_file, root / 'val2017', test_mode=True)
    samples = truth_as_predictions(dataset)
    rng = np.random.default_rng(0)
    for sample in samples:
        found = sample['pred_instances']
        shift = rng.normal(0, 8, found.bboxes.shape)
        found.bboxes = found.bboxes + torch.tensor(shift, dtype=torch.float32)
        found.scores = torch.tensor(rng.random(len(found)))
    options = dict(ann_file=str(ann_file), proposal_nums=(1, 10, 100))
    classes = dataset.metainfo['classes']
    ours = measure('BoxMetric', classes, samples, **options)
    assert ours == measure('CocoMetric', classes, samples, **options)
    assert 0.1 < ours['coco/bbox_mAP'] < 0.9


def test_images_without_annotations_give_results_but_no_metrics(
    coco, tmp_path
):
    classes, options = ('cat', 'dog'), dict(annotation_format='images')
    dataset = build(
        *('BoxDataset', '', coco.img_dir, classes), test_mode=True, **options
    )
    assert len(dataset) == 3
    samples = truth_as_predictions(dataset)
    samples[0]['pred_instances'] = InstanceData(
        bboxes=torch.tensor([[1.0, 2, 3, 4]]),
        labels=torch.tensor([1]),
        scores=torch.ones(1),
    )
    options |= dict(ann_file='', img_dir=str(coco.img_dir))
    options['outfile_prefix'] = str(tmp_path / 'found')
    assert measure('BoxMetric', classes, samples, **options) == {}
    assert len(json.loads((tmp_path / 'found.bbox.json').read_text())) == 1
