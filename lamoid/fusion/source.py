"""The models that a fusion reads, in an order and with keys that hang on what they hold, not on how they are listed."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from lamoid.errors import InputError
from lamoid.fusion.order import content_keys
from lamoid.fusion.rules.rule import Options
from lamoid.weights.header import TensorInfo
from lamoid.weights.read import Tensors


@dataclass(frozen=True)
class Source:
    """One model of a fusion: its name for messages and its tensors; what a rule needs of it besides in ``statistics``.

    ``key`` stands for what it holds; it is found where it is not given.
    """

    name: str
    tensors: Tensors
    key: str = ""
    statistics: Tensors | None = None


Settings = Callable[[str], tuple[Sequence[float], Options]]
"""Gives the members' weights and the rule's numbers for a tensor, by its name."""


def check_alike(members: Sequence[Source], base: Source | None, infos: Sequence[TensorInfo]) -> None:
    """Raise an ``InputError`` naming the first tensor that a model lacks, or has in another shape or dtype."""
    for model in [*members, *([] if base is None else [base])]:
        for info in infos:
            culprit = f"{model.name}: tensor {info.name}"
            if info.name not in model.tensors:
                if model is base and not info.dtype.is_floating_point:
                    continue
                raise InputError(culprit, f"is not there, but it is in {members[0].name}", "fuse models of one shape")
            theirs = model.tensors[info.name]
            for field in ("shape", "dtype"):
                here, there = getattr(info, field), getattr(theirs, field)
                if here != there:
                    problem = f"{field} is {there}, in {members[0].name} it is {here}"
                    raise InputError(culprit, problem, "fuse models of one shape and dtype")


def in_content_order(
    members: Sequence[Source], settings: Settings, names: Sequence[str]
) -> tuple[list[Source], Settings]:
    """Give the members with their keys in an order that their content gives, and the settings in that order.

    Members that hold the same come in the order of their settings, and their keys are numbered.
    """
    keys = content_keys([member.tensors for member in members], [member.key for member in members])
    ties = [""] * len(members)
    if len(set(keys)) < len(keys):
        ties = [_settings_key(settings, names, index, len(members)) for index in range(len(members))]
    order = sorted(range(len(members)), key=lambda index: (keys[index], ties[index], index))
    ordered = []
    for place, index in enumerate(order):
        earlier = sum(keys[other] == keys[index] for other in order[:place])
        ordered.append(replace(members[index], key=f"{keys[index]}-{earlier}"))

    def permuted(name: str) -> tuple[Sequence[float], Options]:
        weights, options = settings(name)
        _check_count(weights, len(members), name)
        return [weights[index] for index in order], _permute(options, order)

    return ordered, permuted


def _permute(options: Options, order: Sequence[int]) -> Options:
    changed: dict[str, Any] = {}
    for field in options.__struct_fields__:
        value = getattr(options, field)
        if isinstance(value, list | tuple):
            _check_count(value, len(order), field)
            changed[field] = [value[index] for index in order]
    return msgspec.structs.replace(options, **changed) if changed else options


def _check_count(values: Sequence[object], members: int, culprit: str) -> None:
    if len(values) != members:
        raise InputError(culprit, f"has {len(values)} numbers for {members} members", "give one a member")


def _settings_key(settings: Settings, names: Sequence[str], index: int, members: int) -> str:
    digest = hashlib.sha256()
    for name in names:
        weights, options = settings(name)
        _check_count(weights, members, name)
        digest.update(repr((weights[index], _permute(options, [index] * members))).encode())
    return digest.hexdigest()
