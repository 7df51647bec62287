"""What is asked of the engine, and what it gives back."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

from lamoid.errors import InputError

MOST_STOPS = 100
LONGEST_STOP = 1000
PENALTIES = (0.01, 100.0)
COLDEST = 1e-6

Reason = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class Settings:
    """How a text is continued.

    ``temperature`` 0 takes the likeliest token each time; so does anything below ``COLDEST``, where float32 cannot hold
    the quotients. ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and ``repetition_penalty`` 1 change nothing. ``stop`` are texts
    before which the continuation ends. Raises ``InputError`` naming the setting.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: Sequence[str] = ()

    def __post_init__(self) -> None:
        _whole("max_tokens", self.max_tokens, 1, None, "ask for at least one token")
        _number(
            "temperature",
            self.temperature,
            0.0,
            math.inf,
            "0 is greedy, 1 leaves the model's probabilities as they are",
        )
        _whole("top_k", self.top_k, 0, None, "0 keeps every token")
        _number("top_p", self.top_p, 0.0, 1.0, "1 keeps every token")
        if self.top_p == 0:
            raise InputError("top_p", "is 0, must be above 0", "1 keeps every token; temperature 0 is greedy")
        _number("min_p", self.min_p, 0.0, 1.0, "0 keeps every token")
        _number("repetition_penalty", self.repetition_penalty, *PENALTIES, "1 changes nothing, 1.1 is usual")
        _whole("seed", self.seed, 0, 2**63 - 1, "take any such number")
        object.__setattr__(self, "stop", _stops(self.stop))

    @property
    def is_greedy(self) -> bool:
        """Is the likeliest token taken each time?"""
        return self.temperature < COLDEST


@dataclass(frozen=True)
class Request:
    """Token ids to go on from, and how. ``copy`` numbers equal prompts of one call, so that they draw differently."""

    ids: tuple[int, ...]
    settings: Settings
    copy: int = 0


@dataclass(frozen=True)
class Piece:
    """One written token of text ``row``, the text that it makes certain, and on the last one why it is the last.

    ``reason`` is "end" (an end token, which has no text), "stop" (a stop string) or "length" (``max_tokens`` or the
    model's context).
    """

    row: int
    token: int
    text: str
    reason: Reason | None


@dataclass(frozen=True)
class Completion:
    """A finished text; ``ids`` are all written tokens, an end token among them."""

    text: str
    ids: tuple[int, ...]
    reason: Reason


def _whole(name: str, value: Any, low: int, high: int | None, cure: str) -> None:
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or not low <= int(value) or (high is not None and int(value) > high):
        limit = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise InputError(name, f"is {_show(value)}, must be a whole number {limit}", cure)


def _number(name: str, value: Any, low: float, high: float, cure: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or value > sys.float_info.max:
        limit = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise InputError(name, f"is {_show(value)}, must be a finite number {limit}", cure)


def _stops(stop: Any) -> tuple[str, ...]:
    """Take one stop string, several or none; an empty one would end every text before its first character."""
    stops = (stop,) if isinstance(stop, str) else () if stop is None else stop
    if not isinstance(stops, Sequence) or not all(isinstance(text, str) for text in stops):
        raise InputError("stop", f"is {_show(stop)}, must be a text or a list of texts", "give texts to stop before")
    if len(stops) > MOST_STOPS or any(len(text) > LONGEST_STOP for text in stops):
        problem = f"has more than {MOST_STOPS} texts, or one of more than {LONGEST_STOP} characters"
        raise InputError("stop", problem, "give fewer or shorter ones")
    if "" in stops:
        raise InputError("stop", "has an empty text, which is found before every character", "leave it out")
    return tuple(stops)


def _show(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 256:
        return "a number of more than 70 digits"
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
