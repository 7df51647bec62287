"""What a key of a recipe wants, in a person's words and with an example to go by."""

import json
import re
from typing import Any

_WANTED = re.compile(r"Expected `([^`]+)`, got `[^`]+`")
_KINDS = {
    "int": ("a whole number", "100", int),
    "float": ("a number", "0.1", float),
    "str": ("a text", '"text"', str),
    "bool": ("true or false", "true", bool),
    "array": ("a list", '["a", "b"]', list),
    "object": ("a table", "", dict),
}


def wanted(text: str, key: str, default: Any, *, of_tables: bool) -> tuple[str, str] | None:
    """Turn the library's message of a wrong type into the problem and the cure of the key.

    The example is the key's ``default`` where that is a value of a wanted kind; ``of_tables`` says that a list has
    tables in it. ``None`` for any other message.
    """
    found = _WANTED.fullmatch(text)
    kinds = [] if found is None else [_KINDS[kind] for kind in found[1].split(" | ") if kind in _KINDS]
    if not kinds:
        return None
    problem = f"must be {' or '.join(words for words, _, _ in kinds)}"
    if kinds[0][2] is dict:
        return problem, f"write a table [{key}]"
    if kinds[0][2] is list and of_tables:
        return problem, f"write a table [[{key}]] for each entry"
    default = list(default) if isinstance(default, tuple) else default
    fits = type(default) in [kind for _, _, kind in kinds] and default not in ("", [])
    example = json.dumps(default) if fits else kinds[0][1]
    return problem, f"write for instance {example if key.endswith(']') else f'{key} = {example}'}"
