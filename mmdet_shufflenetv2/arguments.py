"""Checks of arguments, by one notion of what equals what."""

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Real
from typing import TypeVar

Choice = TypeVar('Choice')
Row = TypeVar('Row')


def whole_number(value: object) -> int | None:
    """A whole number as Python's own; None if it is none.

    Numpy's are some. True is none, nor is 2.0: PyTorch refuses a float where
    it counts, and True would count as 1.
    """
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def whole_numbers(values: object) -> tuple[int | None, ...]:
    """Of a sequence, with None for other values; of anything else nothing."""
    if not isinstance(values, Sequence):
        return ()
    return tuple(whole_number(value) for value in values)


def check_choice(
    name: str, value: object, allowed: Iterable[Choice]
) -> Choice:
    """The one of the allowed values that an argument is.

    Args:
        name: of the argument.
        value: what was given.
        allowed: whole numbers, numbers, text, booleans or None; a value has
            to be of its choice's kind.

    Raises:
        ValueError: it is none of them.
    """
    allowed = tuple(allowed)
    for choice in allowed:
        if _is(value, choice):
            return choice
    choices = ', '.join(repr(choice) for choice in allowed)
    raise ValueError(f'{name} must be one of {choices}, got {value!r}')


def check_row(table: Mapping[tuple, Row], **arguments: object) -> Row:
    """The row of a table whose key is the arguments, checked in turn.

    Raises:
        ValueError: there is none; says which one there is with the arguments
            before.
    """
    rows, given = dict(table), []
    for index, (name, value) in enumerate(arguments.items()):
        label = f'{name} with {", ".join(given)}' if given else name
        choices = dict.fromkeys(key[index] for key in rows)
        choice = check_choice(label, value, choices)
        given.append(f'{name}={choice!r}')
        rows = {k: row for k, row in rows.items() if k[index] == choice}
    return next(iter(rows.values()))


def check_each(
    name: str, values: object, count: int, allowed: Collection[int]
) -> tuple[int, ...]:
    """A sequence of allowed whole numbers as a tuple.

    Raises:
        ValueError: it is none, or not of ``count``.
    """
    numbers = whole_numbers(values)
    if len(numbers) != count or not all(n in allowed for n in numbers):
        raise ValueError(
            f'{name} must have {count} values, each one of {allowed}, got '
            f'{values!r}'
        )
    return numbers


def check_positive(name: str, value: object) -> int:
    """A positive whole number as Python's own.

    Raises:
        ValueError: it is none.
    """
    number = whole_number(value)
    if number is None or number < 1:
        raise ValueError(
            f'{name} must be a positive whole number, got {value!r}'
        )
    return number


def _is(value: object, choice: object) -> bool:
    if choice is None or isinstance(choice, bool):
        return value is choice
    if isinstance(choice, int):
        return whole_number(value) == choice
    # By kind first: whether an array is equal cannot be said in one word.
    kind = Real if isinstance(choice, float) else type(choice)
    is_of_kind = isinstance(value, kind) and not isinstance(value, bool)
    return is_of_kind and value == choice
