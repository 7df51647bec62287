"""Parses JSON that strangers wrote: every ambiguity that the standard parser lets through is refused by name."""

import json
import re
from typing import Any

from lamoid.errors import InputError

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_PAIR = re.compile(rb"\[\]|\{\}")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"{}[],"))
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_DIGITS = 40
"""No whole number in any file that is read here needs more; longer ones cost quadratic time."""

CURE = "Write the file again with a JSON library, or fetch it anew"


def parse_json(data: bytes, *, file: object, depth: int = 32, items: int = 4 * 10**6) -> Any:
    """Give the value that ``data`` (UTF-8 JSON) holds, in time linear in its length.

    At most ``depth`` brackets stand inside each other; brackets, commas and strings are at most ``items``. Raise
    InputError naming ``file``: also for duplicate keys, NaN, Infinity, numbers beyond float64 or 40 digits, lone
    surrogates and a byte order mark.
    """
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise InputError(file, "it starts with a byte order mark", "Save it as UTF-8 without one")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(file, f"byte {error.start} is not UTF-8", "Save it as UTF-8") from None
    _check_structure(data, file, depth, items)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except json.JSONDecodeError as error:
        raise InputError(file, f"it is not JSON: {error.msg} at byte offset {error.pos}", CURE) from None
    except _RefusedError as refused:
        raise InputError(file, str(refused), CURE) from None
    if _ESCAPED_SURROGATE.search(text):
        _check_surrogates(value, file)
    return value


class _RefusedError(ValueError):
    """Carries what a hook of the parser found."""


def _check_structure(data: bytes, file: object, depth: int, items: int) -> None:
    """Bound size and depth before the recursive parser runs: strings are cut out, then pairs of brackets by level."""
    strings, structure = data.count(b'"') // 2, b""
    if strings <= items:
        structure = _STRING.sub(b"", data).translate(None, _NOT_STRUCTURE)
    found = strings + len(structure)
    if found > items:
        raise InputError(file, f"{found} strings, commas and brackets, the limit is {items}", "Split the file")
    brackets = structure.replace(b",", b"")
    for _ in range(depth):
        if not brackets:
            return
        brackets = _PAIR.sub(b"", brackets)
    if brackets:
        problem = f"its brackets do not match, or more than {depth} stand inside each other"
        raise InputError(file, f"it is not usable JSON: {problem}", CURE)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RefusedError(f"the key {key[:80]!r} stands twice in one object")
            seen.add(key)
    return result


def _refuse_constant(text: str) -> None:
    raise _RefusedError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _RefusedError(f"the number {text[:40]} is beyond what a float holds")
    return value


def _bounded(text: str) -> int:
    if len(text) > _DIGITS:
        raise _RefusedError(f"a whole number of {len(text)} digits, the limit is {_DIGITS}")
    return int(text)


def _check_surrogates(value: Any, file: object) -> None:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting.extend(part)
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, str):
            try:
                part.encode("utf-8")
            except UnicodeEncodeError:
                raise InputError(file, f"the text {part[:40]!a} holds half a surrogate pair", CURE) from None
