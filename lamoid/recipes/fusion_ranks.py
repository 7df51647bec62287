"""A fusion that torchrun has started in several processes, on one host or on several that share the disk."""

from collections.abc import Mapping
from dataclasses import dataclass

from lamoid.errors import InputError
from lamoid.fusion.workers import join_fusion
from lamoid.recipes.fusion_recipe import FusionRecipe

PATIENCE = 7.0 * 24.0 * 3600.0
"""Seconds that a rank waits: the first measures all members before anything is written."""


@dataclass(frozen=True)
class Ranks:
    """This process's number among so many, and the name of their run."""

    rank: int
    count: int
    run: str

    def join(self, recipe: FusionRecipe) -> None:
        """Do the share of a rank above 0."""
        join_fusion(recipe.out, self.rank, self.run, patience=PATIENCE)


def find_ranks(environment: Mapping[str, str], recipe: FusionRecipe) -> Ranks | None:
    """Read what torchrun says, which sets both numbers; None for a process alone. Raise ``InputError`` for what several
    cannot do together."""
    if not {"RANK", "WORLD_SIZE"} <= set(environment):
        return None
    count, rank = environment["WORLD_SIZE"], environment["RANK"]
    if not (count.isdecimal() and rank.isdecimal() and int(rank) < int(count)):
        problem = f"are {rank[:20]!r} and {count[:20]!r}"
        raise InputError("RANK and WORLD_SIZE", problem, "start the ranks with torchrun, or take both away")
    if int(count) == 1:
        return None
    for name, is_asked in (("never_worse", recipe.never_worse), ("steps", bool(recipe.steps))):
        if is_asked:
            raise InputError(name, f"is asked of {count} ranks", "fuse without torchrun: --workers on one host can")
    parts = (environment.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT"))
    return Ranks(int(rank), int(count), " ".join(["ranks", *parts]))
