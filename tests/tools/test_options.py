from argparse import ArgumentTypeError

import pytest

from mmdet_shufflenetv2.cli.options import (
    image_size,
    positive_int,
    positive_number,
    whole_number,
)


@pytest.mark.parametrize(
    'kind, text, value',
    [
        (whole_number, '0', 0),
        (positive_int, '12', 12),
        (positive_number, '2', 2.0),
        (positive_number, '.5', 0.5),
        (positive_number, '1e1', 10.0),
        (image_size, '640x480', (640, 480)),
    ],
)
def test_texts_become_values(kind, text, value):
    assert kind(text) == value


@pytest.mark.parametrize(
    'kind, text',
    [
        (whole_number, '-1'),
        (whole_number, '1.0'),
        (positive_int, '0'),
        (positive_int, '-1'),
        (positive_int, 'two'),
        (positive_number, '0.0'),
        (positive_number, '-3'),
        (positive_number, 'nan'),
        (positive_number, 'inf'),
        (positive_number, 'many'),
        (image_size, '640'),
        (image_size, '0x0'),
        (image_size, '640x4'),
    ],
)
def test_other_texts_are_refused_with_what_is_allowed(kind, text):
    with pytest.raises(ArgumentTypeError, match=r'expected.*got'):
        kind(text)
