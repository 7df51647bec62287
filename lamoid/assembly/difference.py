"""Where two descriptions differ."""

import json
from collections.abc import Iterator
from typing import Any


def first_difference(ours: Any, theirs: Any, path: str = "") -> tuple[str, str, str] | None:
    """Find the first place where two trees of dicts, lists and values differ: its path and both values, as text."""
    return next(differences(ours, theirs, path), None)


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Go through all places where two trees of dicts, lists and values differ: their paths and both values, as text."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            place = f"{path}.{key}" if path else str(key)
            if key not in ours or key not in theirs:
                yield place, show(ours.get(key, "absent")), show(theirs.get(key, "absent"))
            else:
                yield from differences(ours[key], theirs[key], place)
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        if len(ours) != len(theirs):
            yield f"number of {path}", str(len(ours)), str(len(theirs))
        else:
            for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
                yield from differences(a, b, f"{path}[{index}]")
    elif type(ours) is not type(theirs) or ours != theirs:
        yield path, show(ours), show(theirs)


def show(value: Any) -> str:
    """Give a value as short JSON; the word "absent" stands for itself."""
    text = value if value == "absent" else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
