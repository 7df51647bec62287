"""The first place where two descriptions differ."""

import json
from typing import Any


def first_difference(ours: Any, theirs: Any, path: str = "") -> tuple[str, str, str] | None:
    """Find the first place where two trees of dicts, lists and values differ: its path and both values, as text."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            place = f"{path}.{key}" if path else str(key)
            if key not in ours or key not in theirs:
                return place, show(ours.get(key, "absent")), show(theirs.get(key, "absent"))
            difference = first_difference(ours[key], theirs[key], place)
            if difference is not None:
                return difference
        return None
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        if len(ours) != len(theirs):
            return f"number of {path}", str(len(ours)), str(len(theirs))
        pairs = (first_difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(ours, theirs, strict=True)))
        return next((pair for pair in pairs if pair is not None), None)
    if type(ours) is type(theirs) and ours == theirs:
        return None
    return path, show(ours), show(theirs)


def show(value: Any) -> str:
    """Give a value as short JSON; the word "absent" stands for itself."""
    text = value if value == "absent" else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
