"""Limits that every spec holds its numbers to, checked before anything is allocated."""

import math

from lamoid.errors import InputError

MOST_LAYERS = 10_000
MOST_DEPTH = 100
MOST_WIDTH = 1 << 20
MOST_VOCAB = 1 << 24
MOST_CONTEXT = 1 << 31


def whole(field: str, value: int, low: int, high: int) -> None:
    """Raise ``InputError`` unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise InputError(field, f"is {value}, must lie from {low} to {high}", f"set {field} within these limits")


def positive(field: str, value: float, *, high: float = 1e12) -> None:
    """Raise ``InputError`` unless ``value`` is finite, above zero and at most ``high``."""
    if not math.isfinite(value) or not 0.0 < value <= high:
        raise InputError(
            field, f"is {value}, must be finite, above 0 and at most {high:g}", f"set {field} within these limits"
        )


def at_least_zero(field: str, value: float, *, high: float = 1e12) -> None:
    """Raise ``InputError`` unless ``value`` is finite, at least zero and at most ``high``."""
    if not math.isfinite(value) or not 0.0 <= value <= high:
        raise InputError(
            field, f"is {value}, must be finite, at least 0 and at most {high:g}", f"set {field} within these limits"
        )


def below_one(field: str, value: float) -> None:
    """Raise ``InputError`` unless ``0 <= value < 1``."""
    if not 0.0 <= value < 1.0:
        raise InputError(field, f"is {value}, must be at least 0 and below 1", f"set {field} within these limits")
