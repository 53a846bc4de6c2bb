"""Types of command-line arguments, which say what is allowed.

Each takes the text of an argument and gives its value.

Raises:
    ArgumentTypeError: the text is none; argparse names the argument.
"""

import math
from argparse import ArgumentTypeError


def whole_number(text: str) -> int:
    """0, 1, 2 and so on."""
    if not text.isdecimal():
        raise ArgumentTypeError(f'a whole number is allowed, got {text!r}')
    return int(text)


def positive_int(text: str) -> int:
    """1, 2, 3 and so on."""
    if not whole_number(text):
        raise ArgumentTypeError('1 or more is allowed, got 0')
    return int(text)


def positive_number(text: str) -> float:
    """A number above 0, such as 1.5."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f'a number above 0 is allowed, got {text!r}')
    return number


def image_size(text: str) -> tuple[int, int]:
    """Width and height in pixels, such as 640x480."""
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal()) or (
        min(int(width), int(height)) < 8
    ):
        raise ArgumentTypeError(
            'WIDTHxHEIGHT of at least 8 pixels is allowed, such as 640x480, '
            f'got {text!r}'
        )
    return int(width), int(height)
