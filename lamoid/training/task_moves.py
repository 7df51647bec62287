"""Rules of sharing that begin or end to hold after given steps of a training over tasks."""

from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from lamoid.assembly.bounds import whole
from lamoid.assembly.group import GroupSpec, ModelGroup, empty_group
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.surgery import Change
from lamoid.assembly.tying import tie, untie
from lamoid.errors import InputError
from lamoid.training.moves import Move
from lamoid.training.schedule import MOST_STEPS


class TieSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tie"):
    """After ``step`` steps the modules that ``paths`` name go on with the first one's parameters and their state."""

    step: int
    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        whole("tie.step", self.step, 1, MOST_STEPS)
        ShareSpec(self.paths)

    def change(self, group: ModelGroup) -> Change:
        return tie(group, ShareSpec(self.paths))


class UntieSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="untie"):
    """After ``step`` steps the rule of just these ``paths`` ends: all but the first go on with copies of their own."""

    step: int
    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        whole("untie.step", self.step, 1, MOST_STEPS)
        ShareSpec(self.paths)

    def change(self, group: ModelGroup) -> Change:
        return untie(group, ShareSpec(self.paths))


MoveSpec = TieSpec | UntieSpec
Make = Callable[[LanguageModel], Change]


def as_moves(moves: Sequence[MoveSpec]) -> list[Move]:
    """Give them as the hook of moves takes them; the loop hands on the group as its model."""
    return [
        Move(each.step, str(each.__struct_config__.tag), " ".join(each.paths), cast("Make", each.change))
        for each in moves
    ]


def check_moves(spec: GroupSpec, moves: Sequence[MoveSpec], steps: int) -> None:
    """Try all moves on a group without numbers; ``InputError`` names the one that cannot be done."""
    group = empty_group(spec)
    for index, tried in sorted(enumerate(moves), key=lambda pair: pair[1].step):
        place = f"moves[{index}]"
        if tried.step >= steps:
            problem = f"is {tried.step}, not less than steps {steps}"
            raise InputError(f"{place}.step", problem, "move earlier, or leave it out")
        try:
            tried.change(group)
        except InputError as error:
            raise InputError(f"{place}: {error.culprit}", error.problem, error.cure) from error
