"""Argument checks that share one definition of equality."""

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Real
from typing import TypeVar

Choice = TypeVar('Choice')
Row = TypeVar('Row')


def whole_number(value: object) -> int | None:
    """Convert a whole number to an int; return None for any other value.

    NumPy integers are converted. True and 2.0 are not whole numbers: PyTorch
    rejects a float as a count and would take True as 1.
    """
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def whole_numbers(values: object) -> tuple[int | None, ...]:
    """Apply :func:`whole_number` to a sequence; () for anything else."""
    if not isinstance(values, Sequence):
        return ()
    return tuple(whole_number(value) for value in values)


def check_choice(
    name: str, value: object, allowed: Iterable[Choice]
) -> Choice:
    """Return the allowed value that an argument equals.

    Args:
        name: Name of the argument, for the message.
        value: Value of the argument.
        allowed: Ints, floats, strings, booleans or None. A value only equals
            a choice of the same kind.

    Raises:
        ValueError: The value is not allowed.
    """
    allowed = tuple(allowed)
    for choice in allowed:
        if _equals(value, choice):
            return choice
    choices = ', '.join(repr(choice) for choice in allowed)
    raise ValueError(f'{name}: expected one of {choices}, got {value!r}')


def check_row(table: Mapping[tuple, Row], **arguments: object) -> Row:
    """Return the table row whose key equals the arguments, in their order.

    Raises:
        ValueError: There is no such row. The message lists the values that
            are possible together with the preceding arguments.
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
    """Convert a sequence of ``count`` allowed whole numbers to a tuple.

    Raises:
        ValueError: The values are anything else.
    """
    numbers = whole_numbers(values)
    if len(numbers) != count or not all(n in allowed for n in numbers):
        raise ValueError(
            f'{name}: expected {count} values, each one of {allowed}, got '
            f'{values!r}'
        )
    return numbers


def check_positive(name: str, value: object) -> int:
    """Convert a positive whole number to an int.

    Raises:
        ValueError: The value is anything else.
    """
    number = whole_number(value)
    if number is None or number < 1:
        raise ValueError(
            f'{name}: expected a positive whole number, got {value!r}'
        )
    return number


def _equals(value: object, choice: object) -> bool:
    if choice is None or isinstance(choice, bool):
        return value is choice
    if isinstance(choice, int):
        return whole_number(value) == choice
    # Check the type first: comparing with an array would return an array.
    kind = Real if isinstance(choice, float) else type(choice)
    is_same_kind = isinstance(value, kind) and not isinstance(value, bool)
    return is_same_kind and value == choice
