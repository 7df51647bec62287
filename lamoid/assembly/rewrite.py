"""Variants of a spec: rules say how each linear map of a model is stored, by the path at which it stands."""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from lamoid.assembly.adapter import AdapterSpec
from lamoid.assembly.heads import TiedSpec
from lamoid.assembly.linear import AdaptedSpec, DenseSpec, LinearSpec
from lamoid.assembly.paths import Spec, children, is_composite, join, walk
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError

AnyLinear = LinearSpec | TiedSpec
Rule = Callable[[str, AnyLinear], AnyLinear]
LINEAR = (DenseSpec, AdaptedSpec, TiedSpec)
ALL = "all"
MOST_TARGETS = 10_000


def linear_maps(spec: ModelSpec) -> Iterator[tuple[str, AnyLinear]]:
    """Give every linear map of a model with its path."""
    for path, part in walk(spec, leaves=LINEAR):
        if isinstance(part, LINEAR):
            yield path, part


def rewrite(spec: ModelSpec, rule: Rule) -> ModelSpec:
    """Give ``spec`` with what ``rule`` makes of each linear map, which it is handed with its path."""
    return _rewritten(spec, "", rule)


def adapt(spec: ModelSpec, adapters: dict[str, AdapterSpec]) -> ModelSpec:
    """Put an adapter beside each of the linear maps at these paths; ``InputError`` if one is there by that name."""
    left = dict(adapters)

    def rule(path: str, linear: AnyLinear) -> AnyLinear:
        adapter = left.pop(path, None)
        return linear if adapter is None else adapted(linear, adapter, path)

    changed = rewrite(spec, rule)
    if left:
        raise InputError(next(iter(left))[:200], "is no linear map of this model", "look at `lamoid info`")
    return changed


def adapted(linear: AnyLinear, adapter: AdapterSpec, path: str) -> AnyLinear:
    """Give a map with one more adapter."""
    try:
        if isinstance(linear, DenseSpec):
            return AdaptedSpec((adapter,), linear)
        return msgspec.structs.replace(linear, adapters=(*linear.adapters, adapter))
    except InputError as error:
        raise InputError(f"{path}.{error.culprit}", error.problem, error.cure) from error


def without_adapters(spec: ModelSpec) -> ModelSpec:
    """Give the base of an adapted model."""
    return rewrite(spec, lambda path, linear: bare(linear))


def bare(linear: AnyLinear) -> AnyLinear:
    """Give a map without its adapters."""
    if isinstance(linear, AdaptedSpec):
        return linear.base
    return msgspec.structs.replace(linear, adapters=()) if isinstance(linear, TiedSpec) else linear


def targets(spec: ModelSpec, patterns: Sequence[str]) -> list[str]:
    """Give the paths of the linear maps that patterns name; ``InputError`` for one that names none.

    A pattern is the end of a path, ``query``, ``mixer.query`` or ``blocks.*.mixer.query``: a piece may be ``*`` for
    anything, or a slice of numbers, ``blocks.:4.mixer.value``. ``all`` is every map of the blocks.
    """
    if not patterns or len(patterns) > MOST_TARGETS:
        raise InputError("targets", f"has {len(patterns)} entries", f"name 1 to {MOST_TARGETS}; all is every map")
    maps = [path for path, _ in linear_maps(spec)]
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = [path for path in maps if _is_meant(pattern, path)]
        if not matches:
            ends = ", ".join(dict.fromkeys(path.rpartition(".")[2] for path in maps))
            raise InputError("targets", f"{pattern[:80]!r} names no linear map of this model", f"there is: {ends}")
        found.update(dict.fromkeys(matches))
    return [path for path in maps if path in found]


def _is_meant(pattern: str, path: str) -> bool:
    if pattern == ALL:
        return path.startswith("blocks.")
    pieces, names = pattern.split("."), path.split(".")
    ends = names[len(names) - len(pieces) :] if len(pieces) <= len(names) else ()
    return bool(ends) and all(_fits(piece, name) for piece, name in zip(pieces, ends, strict=True))


def _fits(piece: str, name: str) -> bool:
    if ":" not in piece:
        return piece in ("*", name)
    bounds = piece.split(":")
    if len(bounds) > 3 or not all(bound.lstrip("-").isdecimal() or not bound for bound in bounds):
        raise InputError("targets", f"{piece[:40]!r} is no slice", "write it as Python does, such as 2:6 or ::2")
    numbers = [int(bound[:9]) if bound else None for bound in bounds]
    if len(numbers) == 3 and numbers[2] is not None and numbers[2] < 1:
        raise InputError("targets", f"{piece[:40]!r} has a step below 1", "write it as Python does, such as ::2")
    # Without the list's length, a bound from its end cannot be told: those are refused.
    if any(number is not None and number < 0 for number in numbers):
        raise InputError("targets", f"{piece[:40]!r} counts from the end", "count from 0")
    return name.isdecimal() and int(name) in range(2**31)[slice(*numbers)]


def _rewritten(part: Spec, path: str, rule: Rule) -> Spec:
    """Give a part with its maps rewritten; what did not change stays the same object."""
    if isinstance(part, LINEAR):
        return rule(path, part)
    inside = children(part)
    new = {name: _rewritten(value, join(path, name), rule) for name, value in inside if is_composite(value)}
    if all(new[name] is value for name, value in inside if name in new):
        return part
    if isinstance(part, msgspec.Struct):
        return msgspec.structs.replace(part, **new)
    if isinstance(part, tuple):
        return tuple(new.get(name, value) for name, value in inside)
    return {name: new.get(name, value) for name, value in inside}
