"""Values that came as JSON, from anywhere: whether they are what they should be."""

from __future__ import annotations

import math
from typing import Any

LAST_SECOND = 253402300799  # of the year 9999: a message has no later time


def is_text(text: Any) -> bool:
    """Whether it is text that a database and a message can hold: JSON can spell halves of characters."""
    if not isinstance(text, str):
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_whole(value: Any) -> bool:
    """Whether it is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def is_time(value: Any) -> bool:
    """Whether it is seconds since 1970 that a message can tell."""
    return is_number(value) and 0 <= value <= LAST_SECOND
