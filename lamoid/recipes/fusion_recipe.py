"""A fusion as a person writes it: rule, members, weights, data; in TOML, or made of a command's words."""

from typing import Literal

import msgspec

Number = bool | int | float | str
"""A value of an option; the words and truths among them are not interpolated."""
Gradient = list[Number]
"""Values for the first to the last block, between which is interpolated."""


class Filtered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value for the tensors whose name holds ``filter``; "*" is any."""

    value: Number | Gradient
    filter: str = "*"


Setting = Number | list[Number | Filtered]
"""One number, one that changes from block to block, or one by the tensors' names: the first filter that fits counts."""


class MemberTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member: a folder, or the name of an earlier step; ``options`` are the rule's numbers for it alone.

    ``statistics`` is the folder of its Fisher information or its inputs' products, for the rules that need them. If
    not given, they are measured: on the measuring half of ``on``, the member's own text, or else of all tasks' texts.
    """

    model: str
    weight: Setting | None = None
    options: dict[str, Setting] = {}
    statistics: str | None = None
    on: str | list[str] | None = None


class TaskTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Text of one task, with its share in the loss that weighs the members."""

    name: str
    on: str | list[str]
    weight: float = 1.0
    judge: str | list[str] | None = None


class StepTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A result that is used further on and not kept."""

    name: str
    members: list[MemberTable]
    rule: str = "linear"
    base: str | None = None
    weights: str = "given"
    options: dict[str, Setting] = {}


class FusionRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of a fusion.

    ``weights``: "loss" (softmax of minus the loss over tau), "uniform", "greedy" (the greedy soup), "pack" (one after
    the other, by the loss), "search" (the best on the measuring half, by losses alone), "descend" (the same by their
    slopes), or "given" (each member's own). ``dtype`` is what the result is stored in, the members' own if not given;
    ``measure_dtype`` what losses are measured in.
    """

    out: str
    members: list[MemberTable]
    rule: str = "linear"
    base: str | None = None
    weights: str = "loss"
    tau: float | Literal["auto"] = 1.0
    options: dict[str, Setting] = {}
    gradient_after: Literal["last", "first"] = "last"
    """Which value of a gradient the tensors behind the blocks get: the last, or with mergekit the first."""
    steps: list[StepTable] = []
    tasks: list[TaskTable] = []
    never_worse: bool = False
    budget: int = 50
    """Mixtures that a search may try."""
    between: bool = False
    """Whether losses between two or three members are measured over a grid, for a picture."""
    memory: str = "512MiB"
    workers: int = 1
    verify: bool = False
    device: str = "cpu"
    dtype: str | None = None
    measure_dtype: str | None = None
    seed: int = 0
    shard_size: str = "5GB"
    separator: str | None = None
    field: str = "text"
    context: int | None = None
    ignore_field: list[str] = []
    notes: list[str] = []
    """What was read otherwise than it was written, for the report."""
