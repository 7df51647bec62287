"""The moves of a training recipe: what each may say, and a dry run of all of them before the first step."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from lamoid.assembly.block import BlockSpec
from lamoid.assembly.bounds import positive, whole
from lamoid.assembly.experts import ExpertsSpec
from lamoid.assembly.model import LanguageModel, empty_model
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.surgery import Change, replace
from lamoid.assembly.surgery_moves import FAR_BELOW, add_expert, insert, set_kv_heads, to_experts, widen
from lamoid.assembly.surgery_sharing import tie, untie
from lamoid.assembly.written import read_written
from lamoid.errors import InputError
from lamoid.training.moves import Move, Raising
from lamoid.training.schedule import MOST_STEPS

SEEDS_APART = 2**32


class MoveTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    """What all moves say: after which ``step`` they are made."""

    step: int

    def __post_init__(self) -> None:
        whole("step", self.step, 1, MOST_STEPS)

    def make(self, model: LanguageModel, seed: int) -> Change:
        """Change the model."""
        raise NotImplementedError


class PlaceMove(MoveTable, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What most moves say: the ``path`` in the model."""

    path: str


class ReplaceMove(PlaceMove, frozen=True, forbid_unknown_fields=True, tag="replace", kw_only=True):
    """Another part, ``spec``, written as a spec file has it."""

    spec: dict[str, Any] | list[Any] | str

    def make(self, model: LanguageModel, seed: int) -> Change:
        return replace(model, self.path, self.spec, seed=seed)


class InsertMove(PlaceMove, frozen=True, forbid_unknown_fields=True, tag="insert", kw_only=True):
    """A new ``block``, of the same spec as the one before it if none is given, that gives nothing yet; preserving."""

    block: dict[str, Any] | None = None

    def make(self, model: LanguageModel, seed: int) -> Change:
        block = None if self.block is None else read_written(self.block, BlockSpec, "block")
        return insert(model, self.path, block, seed=seed)


class WidenMove(PlaceMove, frozen=True, forbid_unknown_fields=True, tag="widen", kw_only=True):
    """Feed-forwards of ``hidden`` units, the new ones giving nothing yet; preserving."""

    hidden: int

    def make(self, model: LanguageModel, seed: int) -> Change:
        return widen(model, self.path, self.hidden, seed=seed)


class KvHeadsMove(PlaceMove, frozen=True, forbid_unknown_fields=True, tag="kv_heads", kw_only=True):
    """More key and value heads by copying, preserving; or fewer by averaging."""

    kv_heads: int

    def make(self, model: LanguageModel, seed: int) -> Change:
        return set_kv_heads(model, self.path, self.kv_heads)


class ExpertsMove(PlaceMove, frozen=True, forbid_unknown_fields=True, tag="experts", kw_only=True):
    """A mixture of so many copies of a feed-forward; preserving."""

    experts: int
    chosen: int = 2
    balance: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("experts", self.experts, 1, 4096)

    def make(self, model: LanguageModel, seed: int) -> Change:
        settings = {"chosen": self.chosen, "balance": self.balance}
        return to_experts(model, self.path, self.experts, seed=seed, **settings)


class AddExpertMove(PlaceMove, frozen=True, forbid_unknown_fields=True, tag="add_expert", kw_only=True):
    """One more ``expert``, its gate's bias ``below`` the others' and raised ``over`` so many steps; preserving."""

    expert: dict[str, Any] | None = None
    below: float = FAR_BELOW
    over: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("below", self.below)
        whole("over", self.over, 1, MOST_STEPS)

    def make(self, model: LanguageModel, seed: int) -> Change:
        expert = None
        if self.expert is not None:
            written = {"experts": [self.expert], "chosen": 1}
            expert = read_written(written, ExpertsSpec, "expert").experts[0]
        return add_expert(model, self.path, expert, below=self.below, seed=seed)


class TieMove(MoveTable, frozen=True, forbid_unknown_fields=True, tag="tie", kw_only=True):
    """The modules of ``paths`` share the parameters of the first of them from then on."""

    paths: tuple[str, ...]

    def make(self, model: LanguageModel, seed: int) -> Change:
        return tie(model, self.paths)


class UntieMove(PlaceMove, frozen=True, forbid_unknown_fields=True, tag="untie", kw_only=True):
    """What is shared is split: a rule (``sharing.0``), a module of one, or a head tied to the tokens; preserving."""

    def make(self, model: LanguageModel, seed: int) -> Change:
        return untie(model, self.path)


AnyMove = ReplaceMove | InsertMove | WidenMove | KvHeadsMove | ExpertsMove | AddExpertMove | TieMove | UntieMove


@dataclass(frozen=True)
class MovePlan:
    """All moves in order, the gates that they raise, and the spec that the model has from each step on."""

    moves: tuple[Move, ...]
    raisings: tuple[Raising, ...]
    specs: tuple[tuple[int, ModelSpec], ...]

    def average_flops(self, context: int, steps: int) -> float:
        """Give the operations of a forward pass for one token, averaged over the first ``steps`` steps."""
        ends = [*(begin for begin, _ in self.specs[1:]), steps]
        done = 0
        for (begin, spec), end in zip(self.specs, ends, strict=True):
            done += max(0, min(end, steps) - begin) * spec.flops(context)
        return done / max(1, steps)


def plan_moves(tables: Sequence[AnyMove], spec: ModelSpec, *, steps: int, seed: int) -> MovePlan:
    """Make all moves with a model without numbers; ``InputError`` names the move, counted from 0, that is refused."""
    model = empty_model(spec)
    order = sorted(range(len(tables)), key=lambda number: tables[number].step)
    moves: list[Move] = []
    raisings: list[Raising] = []
    specs = [(0, spec)]
    for number in order:
        table = tables[number]
        if table.step >= steps:
            problem = f"is {table.step}, not less than training.steps {steps}"
            raise InputError(f"moves.{number}.step", problem, "make the move earlier, or train longer")
        move = _move(table, seed + SEEDS_APART * (number + 1))
        try:
            change = move.make(model)
        except InputError as error:
            raise InputError(f"moves.{number}: {error.culprit}", error.problem, error.cure) from error
        moves.append(move)
        raisings = [part for raising in raisings for part in _followed(raising, change, table.step, model)]
        if isinstance(table, AddExpertMove):
            raisings += _raisings(table, number, change, model, steps)
        specs.append((table.step, model.spec))
    return MovePlan(tuple(moves), tuple(raisings), tuple(specs))


def _move(table: AnyMove, seed: int) -> Move:
    kind = str(table.__struct_config__.tag)
    path = ", ".join(table.paths) if isinstance(table, TieMove) else table.path
    return Move(table.step, kind, path, lambda model: table.make(model, seed % 2**63))


def _raisings(table: AddExpertMove, number: int, change: Change, model: LanguageModel, steps: int) -> list[Raising]:
    """Give the gates that a new expert's move raises: the last entry of each router's bias."""
    end = table.step + table.over
    if end > steps:
        problem = f"is {table.over}, so the gate would still rise at step {end} of {steps}"
        raise InputError(f"moves.{number}.over", problem, "raise it faster, or train longer")
    names = [name for name in change.added if name.endswith("router.bias")]
    lasts = {name: len(model.get_parameter(name)) - 1 for name in names}
    return [Raising(name, last, table.below, table.step, table.over, table.step, end) for name, last in lasts.items()]


def _followed(raising: Raising, change: Change, step: int, model: LanguageModel) -> list[Raising]:
    """Let a gate go on to rise under the name that a move after ``step`` gives it; it ends with its router."""
    name = change.kept.get(raising.bias)
    if name is None and raising.bias in change.added and len(model.get_parameter(raising.bias)) > raising.expert:
        name = raising.bias  # a longer bias, of a router that was given one more expert
    if name == raising.bias or raising.last < step:
        return [raising]
    parts = [dataclasses.replace(raising, last=step - 1)]
    if name is not None:
        parts.append(dataclasses.replace(raising, bias=name, first=max(step, raising.first)))
    return [part for part in parts if part.first <= part.last]
