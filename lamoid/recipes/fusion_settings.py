"""The numbers of a fusion for each tensor: of filters and gradients, of all members' and each member's own."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec

from lamoid.errors import InputError
from lamoid.fusion.rules.rule import Options, Rule
from lamoid.recipes.fusion_recipe import Filtered, MemberTable, Number, Setting
from lamoid.weights.folder import ModelFolder

Settings = Callable[[str], tuple[list[float], Options]]
"""Gives the members' weights and the rule's options for a tensor, by its name in the files."""


def make_settings(
    rule: Rule,
    members: Sequence[MemberTable],
    options: Mapping[str, Setting],
    place_of: Callable[[str], float],
    weights: Sequence[float] | None = None,
) -> Settings:
    """Give the function from a tensor's name to weights, in the order of ``members``, and options.

    ``weights`` take the place of the members' own; a member without any has weight 1. Of an option a member's own value
    counts before that of all. Raise ``InputError`` naming an option that the rule has not, a value that it refuses, or
    a member's value where the rule wants one of all.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(rule.options)}
    for name, field in fields.items():
        if field.required and name not in options and not any(name in member.options for member in members):
            raise InputError(f"options.{name}", "is not given, and this rule needs it", f"write it: --set {name}=0.5")
    for name in dict.fromkeys([*options, *(name for member in members for name in member.options)]):
        if name not in fields:
            has = f"it has {', '.join(fields)}" if fields else "it has none"
            raise InputError(f"options.{name}", "is no option of this rule", has)
    alone = {name for name, field in fields.items() if not is_by_member(field.type)}
    for index, member in enumerate(members):
        for name in alone & set(member.options):
            problem = "is one number for all members with this rule"
            raise InputError(f"members[{index}].options.{name}", problem, f"write it as options.{name}")

    def settings(tensor: str) -> tuple[list[float], Options]:
        place = place_of(tensor)
        found: dict[str, Any] = {}
        for name in fields:
            values = _values(name, members, options, tensor, place, fields[name].default)
            if values is not None:
                found[name] = values
        numbers = list(weights) if weights is not None else [_weight(member, tensor, place) for member in members]
        return numbers, _convert(found, rule, tensor)

    return settings


def find_places(folder: ModelFolder, *, after: Literal["last", "first"] = "last") -> Callable[[str], float]:
    """Give the function from a tensor's name in the files to its place in depth: 0 in the first block, 1 in the last.

    A model of several stacks has each stack from 0 to 1. What comes before all blocks is at 0, what comes behind at 1,
    or at 0 with ``after`` "first" (so does mergekit). A single block is at 1.
    """
    stacks: dict[str, int] = {}
    blocks: dict[str, tuple[str, int]] = {}
    places: dict[str, float] = {}
    for ours, part in folder.names.parts.items():
        match = re.match(r"((?:.*?\.)?blocks\.)(\d+)\.", ours)
        if match is None:
            places.setdefault(part.theirs, float(bool(blocks) and after == "last"))
        else:
            stack, number = match[1], int(match[2])
            blocks.setdefault(part.theirs, (stack, number))
            stacks[stack] = max(stacks.get(stack, 0), number)
    places |= {name: number / stacks[stack] if stacks[stack] else 1.0 for name, (stack, number) in blocks.items()}
    return places.__getitem__


def resolve(setting: Number | Sequence[Number | Filtered], tensor: str, place: float) -> Number | None:
    """Give the value of a setting for one tensor at ``place`` of 0 to 1; None where no filter fits.

    A list is interpolated linearly over the depth; of truths and words the one below is taken. As mergekit's
    ``evaluate_setting``.
    """
    if isinstance(setting, bool | int | float | str):
        return setting
    filtered = [each for each in setting if isinstance(each, Filtered)]
    if filtered:
        if len(filtered) < len(setting):
            raise InputError("options", "a list holds filters beside plain values", 'write {value = ..., filter = "*"}')
        first = next((each for each in filtered if each.filter == "*" or each.filter in tensor), None)
        return None if first is None else resolve(first.value, tensor, place)
    values: list[Any] = list(setting)
    if not values:
        return None
    here = place * (len(values) - 1)
    low = int(here)
    if any(isinstance(value, bool | str) for value in values):
        return values[low]
    high = min(low + 1, len(values) - 1)
    return (1.0 - (here - low)) * values[low] + (here - low) * values[high]


def _weight(member: MemberTable, tensor: str, place: float) -> float:
    value = 1.0 if member.weight is None else resolve(member.weight, tensor, place)
    if value is None:
        problem = f"has no filter that fits the tensor {tensor}"
        raise InputError(f"weight of {member.model}", problem, 'end the list with filter = "*"')
    if isinstance(value, bool | str):
        raise InputError(f"weight of {member.model}", f"is {value!r} for {tensor}", "write a number such as 0.5")
    if not math.isfinite(value):
        raise InputError(f"weight of {member.model}", f"is {value} for {tensor}", "write a finite number such as 0.5")
    return float(value)


def _values(
    name: str, members: Sequence[MemberTable], options: Mapping[str, Setting], tensor: str, place: float, default: Any
) -> Any:
    """Give an option's value for a tensor: one, or one a member where any member has its own; None for the default."""
    common = resolve(options[name], tensor, place) if name in options else None
    own = [resolve(member.options[name], tensor, place) if name in member.options else None for member in members]
    if all(value is None for value in own):
        return common
    return [value if value is not None else default if common is None else common for value in own]


def _convert(found: dict[str, Any], rule: Rule, tensor: str) -> Options:
    try:
        return msgspec.convert(found, rule.options)
    except (msgspec.ValidationError, ValueError) as error:
        problem, _, place = str(error).partition(" - at `$")
        key = place.rstrip("`").lstrip(".")
        where = f"options.{key} for {tensor}" if key else f"options for {tensor}"
        raise InputError(where, problem, "mend the number that is named") from None


def is_by_member(kind: Any) -> bool:
    """Say whether an option of this type may be a number a member."""
    return any(getattr(each, "__origin__", each) in (list, tuple) for each in (kind, *get_args(kind)))
