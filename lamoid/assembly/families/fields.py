"""A Hugging Face configuration, read field by field and strictly typed; nothing that nobody reads passes unseen."""

import sys
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from lamoid.assembly.bounds import MOST_CONTEXT
from lamoid.errors import InputError


class Fields:
    """A configuration that is read field by field, and at the end asked what nobody read.

    Fields named in ``ignore`` may be unknown; a nested one is named with a dot, ``rope_scaling.x``.
    """

    def __init__(self, config: Mapping[str, Any], file: str, ignore: Collection[str] = ()) -> None:
        self.config = config
        self.file = file
        self.ignore = frozenset(ignore)
        self.seen: set[str] = set()

    def take(self, name: str, default: Any = None) -> Any:
        """Give a field as it is, or ``default`` where it is absent or null."""
        self.seen.add(name)
        value = self.config.get(name)
        return default if value is None else value

    def given(self, name: str, default: Any = None) -> Any:
        """Give a field as it is, null too, or ``default`` where it is absent."""
        self.seen.add(name)
        return self.config.get(name, default)

    def whole(self, name: str, default: int | None = None, *, low: int = 1, high: int = MOST_CONTEXT) -> int:
        """Give a whole number from ``low`` to ``high``."""
        value = self.take(name, default)
        if type(value) is not int or not low <= value <= high:
            self.refuse(name, value, f"a whole number from {low} to {high}")
        return value

    def whole_or_none(self, name: str, default: int | None = None) -> int | None:
        """Give a whole number above 0, ``None`` for null, ``default`` where the field is absent."""
        return None if self.given(name, default) is None else self.whole(name, default)

    def number(self, name: str, default: float | None = None) -> float:
        """Give a finite number above 0."""
        value = self.take(name, default)
        # Compared, not converted: JSON may hold a whole number that no float can.
        if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
            self.refuse(name, value, "a finite number above 0")
        return float(value)

    def number_or_none(self, name: str, default: float | None = None) -> float | None:
        """Give a finite number above 0, ``None`` for null, ``default`` where the field is absent."""
        return None if self.given(name, default) is None else self.number(name, default)

    def flag(self, name: str, default: bool) -> bool:
        """Give true or false."""
        value = self.take(name, default)
        if type(value) is not bool:
            self.refuse(name, value, "true or false")
        return value

    def choice(self, name: str, choices: Mapping[str, Any], default: str) -> Any:
        """Give what ``choices`` holds for the field's word."""
        value = self.take(name, default)
        if not isinstance(value, str) or value not in choices:
            self.refuse(name, value, "one of " + ", ".join(sorted(choices)))
        return choices[value]

    def several(self, name: str, count: int, choices: Collection[Any]) -> list[Any] | None:
        """Give a list of ``count`` entries, each one of ``choices``; ``None`` where it is absent or null."""
        value = self.take(name)
        if value is None:
            return None
        allowed = {(type(choice), choice) for choice in choices}
        is_list = isinstance(value, list) and len(value) == count
        if not is_list or not all(isinstance(x, str | int) and (type(x), x) in allowed for x in value):
            self.refuse(name, value, f"a list of {count}, each one of {', '.join(map(str, choices))}")
        return value

    def part(self, name: str) -> "Fields":
        """Give a nested object, empty where it is absent."""
        value = self.take(name, {})
        if not isinstance(value, Mapping):
            self.refuse(name, value, "an object")
        inner = {field.removeprefix(f"{name}.") for field in self.ignore if field.startswith(f"{name}.")}
        return Fields(value, f"{self.file}: {name}", inner)

    def only(self, name: str, value: Any) -> None:
        """Accept nothing but ``value`` (or its absence) for a field whose other values change the model."""
        found = self.take(name, value)
        if type(found) is not type(value) or found != value:
            self.refuse(name, found, f"{value!r}, all that is supported")

    def finish(self, inert: frozenset[str] = frozenset()) -> None:
        """Refuse fields that nobody has read, that are not known to be inert and that are not to be ignored."""
        unknown = sorted(set(self.config) - self.seen - inert - self.ignore)
        if unknown:
            names = ", ".join(str(name)[:80] for name in unknown[:5])
            problem = f"has fields that this family does not know: {names}"
            cure = "remove what does not change the model, or let it pass by name (--ignore-field, ignore_fields)"
            raise InputError(self.file, problem, cure)
        vital = sorted(self.ignore & self.seen & set(self.config))
        if vital:
            problem = "says what the model computes and cannot be ignored"
            raise InputError(f"{self.file}: {vital[0]}", problem, "ignore only what lamoid does not know")

    def refuse(self, name: str, value: Any, expected: str) -> NoReturn:
        """Raise the ``InputError`` for a field."""
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        raise InputError(f"{self.file}: {name}", f"is {shown}, expected {expected}", "mend the field")


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "linear": "identity",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu_squared",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
FOREIGN_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_new",
    "identity": "linear",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu_squared": "relu2",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "tanh": "tanh",
}
