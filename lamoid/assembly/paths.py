"""Places in a tree of specs, written as paths: ``blocks.3.mixer.query``."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from lamoid.errors import InputError

Spec = Any


def children(part: Spec) -> list[tuple[str, Spec]]:
    """Name what stands directly in a spec, a tuple or a dict; plain values have nothing in them."""
    if isinstance(part, msgspec.Struct):
        return [(name, getattr(part, name)) for name in part.__struct_fields__]
    if isinstance(part, tuple):
        return [(str(index), value) for index, value in enumerate(part)]
    return list(part.items()) if isinstance(part, Mapping) else []


def walk(part: Spec, path: str = "", *, leaves: tuple[type, ...] = ()) -> Iterator[tuple[str, Spec]]:
    """Give every struct in ``part`` with its path, itself first, in the order in which it is written; no recursion.

    What is in a struct of the types ``leaves`` is left out.
    """
    waiting = [(path, part)]
    while waiting:
        place, found = waiting.pop()
        if isinstance(found, msgspec.Struct):
            yield place, found
            if isinstance(found, leaves):
                continue
        inside = [(join(place, name), value) for name, value in children(found)]
        waiting.extend(reversed([pair for pair in inside if is_composite(pair[1])]))


def is_composite(value: Spec) -> bool:
    """Can anything stand in it?"""
    return isinstance(value, msgspec.Struct | tuple | Mapping)


def part_at(part: Spec, path: str) -> Spec:
    """Give what stands at a path; raise ``InputError`` naming the first piece that is not there."""
    found, place = part, ""
    for piece in path.split(".") if path else ():
        inside = dict(children(found))
        if piece not in inside:
            there = ", ".join(list(inside)[:12]) or "nothing"
            raise InputError(path[:200], f"{place or 'the model'} has no part {piece[:40]!r}", f"there is: {there}")
        found, place = inside[piece], join(place, piece)
    return found


def with_part(part: Spec, path: str, new: Spec) -> Spec:
    """Give ``part`` with something else at a path."""
    if not path:
        return new
    piece, _, rest = path.partition(".")
    changed = with_part(part_at(part, piece), rest, new)
    if isinstance(part, msgspec.Struct):
        return msgspec.structs.replace(part, **{piece: changed})
    if isinstance(part, tuple):
        index = int(piece)
        return (*part[:index], changed, *part[index + 1 :])
    return {**part, piece: changed}


def join(place: str, name: str) -> str:
    """Give the path of what is called ``name`` in ``place``."""
    return f"{place}.{name}" if place else name
