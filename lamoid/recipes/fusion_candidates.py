"""Fuses the members anew for each mixture that is tried and lets it be measured; nothing of it stays."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from lamoid.recipes.fusion_plan import Blend, Plan
from lamoid.recipes.fusion_trial import Trial
from lamoid.recipes.fusion_writing import hash_blend, hold_fusion, memory_beside, write_fusion
from lamoid.recipes.measuring import Opened
from lamoid.recipes.progress import Progress
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import open_folder


class DiscardedError(Exception):
    """Ends a draft that is not meant to stay."""


@dataclass
class Candidates:
    """Mixtures of a plan's members and their losses on the measuring half; ``tried`` holds what was fused for it.

    One is held in memory where the memory of the plan has room for it and for the arithmetic, else it is written
    beside the output and deleted.
    """

    plan: Plan
    trial: Trial
    progress: Progress | None = None
    tried: dict[Blend, float] = field(default_factory=dict)

    @property
    def alone(self) -> Plan:
        """Give the plan for a mixture that does not stay: nobody else works at it, and it is not read back."""
        return replace(self.plan, recipe=msgspec.structs.replace(self.plan.recipe, workers=1, verify=False))

    def loss(self, blend: Blend) -> float:
        """Give a mixture's mean loss on the measuring half in nats a token; each is fused once."""
        known = self.known(blend)
        if known is not None:
            return known
        name = f"mixture {len(self.tried) + 1}"
        with self.opened(blend, name) as opened:
            self.tried[blend] = self.trial.measure(name, opened)
        return self.tried[blend]

    def known(self, blend: Blend) -> float | None:
        """Give the loss of a mixture that was measured, or is a member; None for another."""
        member = self._member(blend)
        return self.tried.get(blend) if member is None else self.trial.loss(member)

    def judge(self, blend: Blend, name: str) -> None:
        """Judge a mixture under a name."""
        with self.opened(blend, name.lstrip("\0")) as opened:
            self.trial.judge(name, opened, hash_blend(self.plan, blend))

    @contextmanager
    def opened(self, blend: Blend, label: str) -> Iterator[Opened]:
        """Give a mixture as a loaded model."""
        memory = memory_beside(self.plan)
        if memory is not None:
            yield self.trial.open(replace(self.plan.members[0], tensors=hold_fusion(self.plan, blend, memory)), label)
            return
        with suppress(DiscardedError), durable_folder(candidate_folder(self.plan)) as draft:
            write_fusion(self.alone, blend, draft, self.progress, label)
            folder = open_folder(draft.path, ignore_fields=self.plan.recipe.ignore_field)
            yield self.trial.open(folder, label)
            raise DiscardedError

    def _member(self, blend: Blend) -> str | None:
        """Name the member that a mixture is: a weighted average in which it alone counts."""
        weights = blend.weights or ()
        if blend.rule != "linear" or self.plan.recipe.dtype is not None or sorted(weights)[-1:] != [1.0]:
            return None
        if sum(weight != 0.0 for weight in weights) != 1:
            return None
        return str(self.plan.members[weights.index(1.0)].path)


def candidate_folder(plan: Plan) -> Path:
    """Give the folder beside the output that a mixture is written to."""
    return plan.out.with_name(f".{plan.out.name}.candidate")
