"""Modules of several tasks drawn to each other, the harder the more alike the tasks' losses are.

penalty = sum over pairs of (s / 2) |a - b|^2 with s = s0 (1 - |w_a - w_b|) and w = softmax(-loss / tau) over the tasks.
"""

from collections.abc import Mapping
from itertools import combinations

import msgspec
import torch
from torch import Tensor

from lamoid.assembly.bounds import positive
from lamoid.assembly.group import ModelGroup
from lamoid.assembly.sharing import ShareSpec, matched_modules, matching_parameters
from lamoid.errors import InputError
from lamoid.weighing.softmax import softmax_weights

MOST_MEMBERS = 150


class SoftTieSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="soft"):
    """The modules that ``paths`` name, as in a rule of sharing, are drawn to each other with ``strength`` s0.

    The losses that weigh the tasks are the running ones of training; until each task has one, they count as equal,
    which gives s = s0. Modules of one task always have s0.
    """

    paths: tuple[str, ...]
    strength: float = 1e-2
    tau: float = 1.0

    def __post_init__(self) -> None:
        ShareSpec(self.paths)
        positive("soft.strength", self.strength)
        positive("soft.tau", self.tau)


class SoftTie:
    """A ``SoftTieSpec`` on a group; ``losses`` is looked at whenever the penalty is computed."""

    def __init__(self, spec: SoftTieSpec, group: ModelGroup, losses: Mapping[str, float], place: str = "soft") -> None:
        """Raise ``InputError`` naming ``place`` for paths that match nothing and modules that differ in shapes."""
        self.spec, self.losses = spec, losses
        members = matched_modules(group, ShareSpec(spec.paths), place)
        if len(members) > MOST_MEMBERS:
            problem = f"match {len(members)} modules, and each pair of them would be compared at every step"
            raise InputError(f"{place}.paths", problem, f"name at most {MOST_MEMBERS}, in several soft ties")
        self.pairs = [
            (_task(first), _task(second), matching_parameters(group, first, second, place))
            for first, second in combinations(members, 2)
        ]
        self.tasks = list(group.spec.models)

    def strengths(self) -> dict[tuple[str, str], float]:
        """Give s for each pair of tasks."""
        known = all(task in self.losses for task in self.tasks)
        losses = [self.losses[task] for task in self.tasks] if known else [0.0] * len(self.tasks)
        weights = dict(zip(self.tasks, softmax_weights(losses, self.spec.tau), strict=True))
        return {
            (one, other): self.spec.strength * (1.0 - abs(weights[one] - weights[other]))
            for one in self.tasks
            for other in self.tasks
        }

    def penalty(self, group: ModelGroup) -> Tensor:
        """Give the scalar; parameters that are shared by now add nothing, and no gradient flows through s."""
        strengths = self.strengths()
        parameters = dict(group.named_parameters(remove_duplicate=False))
        total = torch.zeros((), device=group.device)
        for one, other, names in self.pairs:
            pairs = [(parameters[first], parameters[second]) for first, second in names]
            apart = [(ours, theirs) for ours, theirs in pairs if ours is not theirs]
            if apart:
                squares = torch.stack([(ours - theirs).square().sum() for ours, theirs in apart])
                total = total + strengths[one, other] / 2.0 * squares.sum()
        return total


def _task(path: str) -> str:
    return path.partition(".")[0]
