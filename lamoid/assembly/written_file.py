"""A spec's file, JSON or TOML, read as tables, lists and plain values; what would cost memory or time is refused."""

import re
import tomllib
from pathlib import Path
from typing import Any

from lamoid.assembly.bounds import MOST_DEPTH
from lamoid.contained import read_whole
from lamoid.errors import InputError
from lamoid.strict_json import parse_json

MOST_BYTES = 16 * 2**20
_MOST_KEYS = 2 * MOST_DEPTH
_KEY = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_DOTTED = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_KEY}){{{_MOST_KEYS}}}")
_LONG = re.compile(r"(?<![A-Za-z0-9_])[A-Za-z0-9_]{5000}")
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def read_tree(path: Path) -> Any:
    """Give what a ``.json`` or ``.toml`` file of at most ``MOST_BYTES`` holds; raise ``InputError`` that names it."""
    if path.suffix not in (".json", ".toml"):
        raise InputError(path, f"ends with {path.suffix[:20]!r}", "name a spec, a .json or .toml file")
    data = read_whole(path, limit=MOST_BYTES)
    return parse_toml(data, path) if path.suffix == ".toml" else parse_spec_json(data, path)


def parse_spec_json(data: bytes, file: object) -> Any:
    """Give what JSON text holds, by the strict parser, as deep as a spec may be."""
    return parse_json(data, file=file, depth=4 * MOST_DEPTH)


def parse_toml(data: bytes, file: object) -> dict[str, Any]:
    """Give the table that TOML text holds."""
    if data.startswith(_MARKS):
        raise InputError(file, "it starts with a byte order mark", "save it as UTF-8 without one")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InputError(file, f"byte {error.start} is not UTF-8", "save it as UTF-8") from None
    # The parser keeps every beginning of a dotted key: 10^5 dots would take tens of gigabytes.
    if _DOTTED.search(text):
        raise InputError(file, f"a key has more than {_MOST_KEYS} dots", "write it flatter")
    # A number of 10^6 digits takes the parser 100 times its length.
    if _LONG.search(text):
        raise InputError(file, "holds a word or number of more than 5000 letters", "write what a spec needs")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(file, f"is not TOML: {str(error)[:300]}", "mend the place named") from None
    except RecursionError:
        raise InputError(file, "is nested too deep", "write it flatter") from None
    except ValueError as error:  # a number of more digits, or a date, than Python has
        raise InputError(file, f"holds a value that cannot be read: {str(error)[:120]}", "mend the value") from None
