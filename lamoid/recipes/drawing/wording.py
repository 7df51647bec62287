"""What a part of a spec is called, and which of its settings are worth saying: those that are not the usual ones."""

from typing import Any

import msgspec

from lamoid.assembly.attention import HeadsSpec
from lamoid.assembly.linear import AdaptedSpec, DenseSpec

ALWAYS = ("position", "sees")
"""Choices that are said even where they are the usual ones."""


def kind_of(part: msgspec.Struct) -> str:
    """Give the kind of a spec, "model" for one that has none."""
    return str(part.__struct_config__.tag or "model")


def settings(part: msgspec.Struct) -> tuple[str, ...]:
    """Say a spec's own settings, each in a few words; what stands below it as a part of its own is left out."""
    said = []
    for field in msgspec.structs.fields(type(part)):
        value = getattr(part, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        is_usual = field.name not in ALWAYS and value == default
        is_echo = field.name == "kv_heads" and isinstance(part, HeadsSpec) and value == part.heads
        if not is_usual and not is_echo:
            said.append(_say(field.name, value))
    return tuple(text for text in said if text)


def _say(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    if isinstance(value, DenseSpec):
        return ""
    if isinstance(value, AdaptedSpec):
        return f"{words} with {' and '.join(each.name for each in value.adapters)}"
    if isinstance(value, msgspec.Struct):
        return _say_choice(name, words, value)
    if isinstance(value, bool):
        return words if value else f"no {words}"
    if isinstance(value, tuple):
        return f"{len(value)} {words}" if value else ""
    if isinstance(value, float):
        return f"{words} {value:g}"
    return "" if isinstance(value, dict) else f"{words} {value}"


def _say_choice(name: str, words: str, value: msgspec.Struct) -> str:
    inside = ", ".join(settings(value))
    kind = kind_of(value).replace("_", " ")
    if kind == "none":
        kind = f"no {words}"
    elif name not in ALWAYS and words not in kind:
        kind = f"{words} {kind}"
    return f"{kind} ({inside})" if inside else kind
