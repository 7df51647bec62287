"""What a person wrote, tables, lists and plain values, read as a spec: abbreviations are filled in, errors name places.

A place is written as in the file, ``blocks[3].mixer.heads``: an abbreviated block stands there once. What may be
abbreviated, in TOML and JSON alike:

- ``repeat = 12`` in a table of a list: it stands there so often;
- ``{repeat = 6, blocks = [...]}`` in a list of blocks: the group stands there so often;
- a list where one node stands: its entries in series;
- ``"rms_norm"`` for ``{kind = "rms_norm"}``;
- ``kind`` may be left out where only one is possible, in a block, which is known by its mixer or feedforward, and in a
  linear map, which is dense unless it has adapters.
"""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from lamoid.assembly.block import BlockSpec
from lamoid.assembly.bounds import MOST_DEPTH, MOST_LAYERS
from lamoid.assembly.linear import AdaptedSpec, DenseSpec
from lamoid.assembly.wiring import SerialSpec
from lamoid.errors import InputError

Spec = TypeVar("Spec", bound=msgspec.Struct)
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Place:
    """A place in a file."""

    file: object
    path: str = ""
    depth: int = 0

    def field(self, name: str) -> "Place":
        """Give the place of what is called ``name`` here."""
        short = name if len(name) <= 60 else name[:60] + "..."
        return Place(self.file, f"{self.path}.{short}" if self.path else short, self.depth + 1)

    def entry(self, index: int) -> "Place":
        """Give the place of an entry of the list here."""
        return Place(self.file, f"{self.path}[{index}]", self.depth + 1)

    def refuse(self, problem: str, cure: str) -> NoReturn:
        """Raise the ``InputError`` that names this place."""
        raise InputError(f"{self.file}: {self.path}" if self.path else self.file, problem, cure)


def read_written(tree: Any, kind: type[Spec], file: object) -> Spec:
    """Read ``tree`` as a spec of the type ``kind``; raise ``InputError`` that names ``file`` and the place in it.

    ``$schema``, by which editors know a JSON file, is passed over.
    """
    if isinstance(tree, dict) and isinstance(tree.get("$schema"), str):
        tree = {name: part for name, part in tree.items() if name != "$schema"}
    return _read(tree, kind, Place(file))


def _read(value: Any, want: Any, place: Place) -> Any:
    if place.depth > MOST_DEPTH + 20:
        shallow = Place(place.file, f"{place.path[:60]}...")
        shallow.refuse(f"is nested more than {MOST_DEPTH + 20} names deep", "write it flatter")
    origin = get_origin(want)
    if origin in (Union, UnionType):
        return _read_choice(value, get_args(want), place)
    if isinstance(want, type) and issubclass(want, msgspec.Struct):
        return _read_struct(value, want, place)
    if origin is tuple:
        kinds = get_args(want)
        entries = tuple(_read_list(value, kinds[0], place))
        if kinds[-1] is not ... and len(entries) != len(kinds):
            place.refuse(f"has {len(entries)} entries, must have {len(kinds)}", "mend the list")
        return entries
    if origin is dict:
        if not isinstance(value, dict):
            place.refuse(f"is {show(value)}, must be a table of names", "write a table")
        return {name: _read(part, get_args(want)[1], place.field(name)) for name, part in value.items()}
    return _read_plain(value, want, place)


def _read_choice(value: Any, choices: tuple[type[msgspec.Struct], ...], place: Place) -> Any:
    """Read one of several structs by its kind."""
    kinds = {str(choice.__struct_config__.tag): choice for choice in choices}
    if isinstance(value, str):
        value = {"kind": value}
    elif isinstance(value, list) and SerialSpec in choices:
        return SerialSpec(_read(value, _hints(SerialSpec)["blocks"], place))
    if not isinstance(value, dict):
        place.refuse(f"is {show(value)}, must be a table or the name of a kind", f"the kinds are {_told(kinds)}")
    kind = value.get("kind")
    if kind is None and BlockSpec in choices and not value.keys().isdisjoint(("mixer", "feedforward")):
        kind = "block"
    if kind is None and set(choices) == {DenseSpec, AdaptedSpec}:
        kind = "adapted" if "adapters" in value else "dense"
    if kind is None:
        place.refuse("does not say its kind", f"write kind = one of {_told(kinds)}")
    if not isinstance(kind, str) or kind not in kinds:
        place.field("kind").refuse(f"{show(kind)} is not known here", f"the kinds are {_told(kinds, kind)}")
    return _read_struct({**value, "kind": kind}, kinds[kind], place)


def _read_struct(value: Any, want: type[msgspec.Struct], place: Place) -> Any:
    """Read the one struct that is possible here."""
    tag = want.__struct_config__.tag
    if tag is not None and isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, dict):
        place.refuse(f"is {show(value)}, must be a table", "write a table")
    if tag is not None and value.get("kind", tag) != tag:
        place.field("kind").refuse(f"{show(value['kind'])} is not known here", f"it can only be {tag!r}")
    hints = _hints(want)
    given = {name: part for name, part in value.items() if tag is None or name != "kind"}
    for name in given:
        if name not in hints:
            what = f"a {tag}" if tag else "this table" if place.path else "a model"
            place.field(name).refuse(f"{what} has no such field", f"its fields are {_told(hints, name)}")
    for field in msgspec.structs.fields(want):
        if field.required and field.encode_name not in given:
            place.field(field.encode_name).refuse("is missing", f"give {field.encode_name}")
    parts = {name: _read(part, hints[name], place.field(name)) for name, part in given.items()}
    own = dict(zip(want.__struct_encode_fields__, want.__struct_fields__, strict=True))
    try:
        return want(**{own[name]: part for name, part in parts.items()})
    except InputError as error:
        # A struct names its field behind its own kind; here its place stands for the kind.
        first, _, rest = error.culprit.partition(".")
        inside = error.culprit if first in hints or (tag is None and not place.path) else rest
        here = place.field(inside) if inside else place
        raise InputError(f"{here.file}: {here.path}", error.problem, error.cure) from error


def _read_list(value: Any, want: Any, place: Place) -> list[Any]:
    """Read a list whose tables may say ``repeat``, and may be groups where nodes stand."""
    if not isinstance(value, list):
        place.refuse(f"is {show(value)}, must be a list", "write a list")
    read: list[Any] = []
    for index, entry in enumerate(value):
        here, times = place.entry(index), 1
        if isinstance(entry, dict) and "repeat" in entry:
            times = entry["repeat"]
            if type(times) is not int or not 1 <= times <= MOST_LAYERS:
                problem = f"is {show(times)}, must lie from 1 to {MOST_LAYERS}"
                here.field("repeat").refuse(problem, "write a whole number")
            entry = {name: part for name, part in entry.items() if name != "repeat"}
        if isinstance(entry, dict) and set(entry) == {"blocks"} and SerialSpec in get_args(want):
            part = _read_list(entry["blocks"], want, here.field("blocks"))
        else:
            part = [_read(entry, want, here)]
        if isinstance(entry, dict) and len(read) + times * len(part) > MOST_LAYERS:
            here.refuse(f"brings the list to more than {MOST_LAYERS} entries", "repeat fewer")
        read.extend(part * times)
    return read


def _read_plain(value: Any, want: Any, place: Place) -> Any:
    """Read a text, a number or a truth value, none of which passes for another."""
    if get_origin(want) is Literal:
        choices = get_args(want)
        if not isinstance(value, str) or value not in choices:
            place.refuse(f"is {show(value)}", f"choose one of {_told(choices, value)}")
        return value
    if isinstance(value, int) and abs(value) > _LARGEST:
        place.refuse(f"is {show(value)}, beyond 64 bits", "write a smaller number")
    if want is float and type(value) is int:
        return float(value)
    if type(value) is not want:
        place.refuse(f"is {show(value)}, must be {_NAMES[want]}", f"write {_NAMES[want]}")
    if want is float and not math.isfinite(value):
        place.refuse(f"is {value}, must be finite", "write a finite number")
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Give the type of each field by its written name."""
    hints = get_type_hints(kind)
    return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(kind)}


def _told(names: Iterable[str], wrong: Any = None) -> str:
    """List names, and say which is nearest to a wrong one."""
    names = list(names)
    listed = ", ".join(names[:40])
    near = difflib.get_close_matches(wrong[:60], names, n=1, cutoff=0.5) if isinstance(wrong, str) else []
    return f"{listed}; the nearest is {near[0]}" if near else listed


def show(value: Any) -> str:
    """Give a value in a few words, whatever its size."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)} entries"
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a whole number of {value.bit_length()} bits"
    if value is None:
        return "null"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
