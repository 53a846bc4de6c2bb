"""What equals what where an argument is checked."""

import numpy as np
import pytest
import torch

from mmdet_shufflenetv2.arguments import (
    check_choice,
    check_positive,
    whole_number,
)


@pytest.mark.parametrize('value', [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_of_any_library_become_pythons(value):
    for number in (
        whole_number(value),
        check_positive('count', value),
        check_choice('groups', value, (1, 3)),
    ):
        assert number == 3
        assert type(number) is int


@pytest.mark.parametrize('value', [3.0, True, '3', None, (3,), np.ones(3)])
def test_what_only_looks_like_a_whole_number_is_none(value):
    assert whole_number(value) is None
    with pytest.raises(ValueError, match='count must be a positive whole'):
        check_positive('count', value)
    with pytest.raises(ValueError, match='groups must be one of 1, 3, got'):
        check_choice('groups', value, (1, 3))


@pytest.mark.parametrize('value', [0, -1])
def test_positive_means_more_than_zero(value):
    with pytest.raises(ValueError, match=f'count .* got {value}'):
        check_positive('count', value)


@pytest.mark.parametrize(
    'value, allowed',
    [
        (1, (0.5, 1.0)),
        (np.float64(1), (0.5, 1.0)),
        ('a', {'a': 1}),
        (None, (None, False)),
        (False, (None, False)),
    ],
)
def test_a_choice_is_given_back_as_it_is_listed(value, allowed):
    choice = check_choice('name', value, allowed)
    assert choice == value
    assert any(choice is one for one in allowed)


@pytest.mark.parametrize(
    'value, allowed',
    [
        (True, (0.5, 1.0)),
        (np.array([1.0]), (0.5, 1.0)),
        (torch.ones(2), (0.5, 1.0)),
        (1, (None, True)),
        (0, (None, False)),
        ('yes', (True, False)),
        (['a'], {'a': 1}),
    ],
)
def test_a_value_of_another_kind_is_no_choice(value, allowed):
    with pytest.raises(ValueError, match='name must be one of'):
        check_choice('name', value, allowed)
