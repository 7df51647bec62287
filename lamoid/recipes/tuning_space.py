"""What a search of settings may try: keys of a recipe with ranges or choices, and values drawn from them."""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamoid.errors import InputError
from lamoid.recipes.read_recipe import recipe_tree
from lamoid.recipes.training_recipe import TrainingRecipe

_RANGE = re.compile(r"\s*(\S+?)\s*\.\.\s*(\S+?)\s*(?::(log|linear))?\s*")
_CURE = "write KEY=LOW..HIGH, KEY=LOW..HIGH:linear or KEY=A|B|C"
LOG_FROM = 10.0
"""A range of positive numbers whose ends differ by this factor is searched by their logarithms."""


@dataclass(frozen=True)
class SearchedKey:
    """A key of the recipe and what it may be: whole numbers or numbers from ``low`` to ``high``, or ``choices``."""

    key: str
    low: float = 0.0
    high: float = 0.0
    is_whole: bool = False
    is_log: bool = False
    choices: tuple[str, ...] = ()

    def ends(self) -> tuple[str, ...]:
        """Give values that stand for all: the choices, or both ends of the range, as ``--set`` takes them."""
        return self.choices or (self.written(self.low), self.written(self.high))

    def written(self, value: float | str) -> str:
        """Write a value as ``--set`` takes it."""
        if isinstance(value, str):
            return value
        return str(round(value)) if self.is_whole else repr(float(value))

    def place(self, value: Any) -> float | str | None:
        """Give the value of a recipe as one of this space; ``None`` if it is not in it."""
        if self.choices:
            return next((choice for choice in self.choices if _value(choice) == value), None)
        is_number = isinstance(value, int if self.is_whole else int | float) and not isinstance(value, bool)
        return value if is_number and self.low <= value <= self.high else None


def read_space(texts: Sequence[str]) -> list[SearchedKey]:
    """Read ``KEY=LOW..HIGH`` and ``KEY=A|B|C``; raise ``InputError`` for what is neither, or a key given twice."""
    if not texts:
        raise InputError("search", "names no key", _CURE)
    keys = [_read_key(text) for text in texts]
    for index, key in enumerate(keys):
        if key.key in {other.key for other in keys[:index]}:
            raise InputError(f"--search {key.key}", "is given twice", "join the two")
    return keys


def own_values(keys: Sequence[SearchedKey], recipe: TrainingRecipe) -> dict[str, float | str] | None:
    """Give the recipe's own value of each key; ``None`` if one lies outside what is searched."""
    tree = recipe_tree(recipe)
    found = {key.key: key.place(_at(tree, key.key)) for key in keys}
    return {key: value for key, value in found.items() if value is not None} if None not in found.values() else None


def as_overrides(keys: Sequence[SearchedKey], values: Mapping[str, float | str]) -> list[str]:
    """Write drawn values as ``--set`` takes them."""
    return [f"{key.key}={key.written(values[key.key])}" for key in keys]


def _read_key(text: str) -> SearchedKey:
    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", key):
        raise InputError(f"--search {text}", "names no key and what it may be", _CURE)
    if found := _RANGE.fullmatch(values):
        return _read_range(f"--search {text}", key, found)
    choices = tuple(part.strip() for part in values.split("|"))
    if len(set(choices)) < 2 or not all(choices) or len(set(choices)) < len(choices):
        raise InputError(f"--search {text}", "does not give two or more different values", _CURE)
    return SearchedKey(key, choices=choices)


def _read_range(place: str, key: str, found: re.Match[str]) -> SearchedKey:
    low, high = (_value(found[side]) for side in (1, 2))
    for number in (low, high):
        if not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number):
            raise InputError(place, f"has an end that is no number ({str(number)[:40]!r})", _CURE)
    if not low < high:
        raise InputError(place, f"goes from {low} to {high}", "put the lower number first")
    if found[3] == "log" and low <= 0:
        raise InputError(place, f"has no logarithm at {low}", "begin above 0, or search it linearly")
    is_log = found[3] != "linear" and low > 0 and (found[3] == "log" or high / low >= LOG_FROM)
    return SearchedKey(key, low, high, is_whole=isinstance(low, int) and isinstance(high, int), is_log=is_log)


def _value(text: str) -> Any:
    """Read a value as ``--set`` does: TOML, or else a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
