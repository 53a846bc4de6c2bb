"""What equals what where an argument is checked."""

import numpy as np
import pytest
import torch

from mmdet_shufflenetv2.arguments import check_choice, check_positive


@pytest.mark.parametrize('value', [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_of_any_library_become_pythons(value):
    assert type(check_positive('count', value)) is int
    assert type(check_choice('groups', value, (1, 3))) is int


@pytest.mark.parametrize('value', [3.0, True, '3', None, (3,), np.ones(3)])
def test_other_values_are_not_whole_numbers(value):
    with pytest.raises(ValueError, match='count must be a positive whole'):
        check_positive('count', value)
    with pytest.raises(ValueError, match='groups must be one of 1, 3, got'):
        check_choice('groups', value, (1, 3))


@pytest.mark.parametrize(
    'value, allowed, same',
    [
        (1, (0.5, 1.0), True),
        (np.float64(1), (0.5, 1.0), True),
        ('a', {'a': 1}, True),
        (None, (None, False), True),
        (False, (None, False), True),
        (True, (0.5, 1.0), False),
        (np.array([1.0]), (0.5, 1.0), False),
        (torch.ones(2), (0.5, 1.0), False),
        (1, (None, True), False),
        (0, (None, False), False),
        ('yes', (True, False), False),
        (['a'], {'a': 1}, False),
    ],
)
def test_a_choice_is_of_the_same_kind(value, allowed, same):
    if same:
        choice = check_choice('name', value, allowed)
        assert choice == value
        assert any(choice is one for one in allowed)
    else:
        with pytest.raises(ValueError, match='name must be one of'):
            check_choice('name', value, allowed)
