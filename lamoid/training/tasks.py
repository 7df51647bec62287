"""Training over tasks: batches of several tasks in turn or mixed, and one objective of all.

In a mixed step the loss is the sum over tasks of weight x (sum / count of the task), whatever their batches' sizes; in
turn, a step is one task's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from lamoid.assembly.group import ModelGroup
from lamoid.assembly.model import LanguageModel
from lamoid.training.objectives import OBJECTIVES, Example, Objective, Term, Terms
from lamoid.training.supervised import SUPERVISED

Mode = Literal["mixed", "in_turn"]


class TaskExample(Example, Protocol):
    """An example that says whose it is."""

    @property
    def task(self) -> str: ...


class Positioned(Protocol):
    """A source without end that knows where it is."""

    @property
    def position(self) -> dict[str, int]: ...

    def __next__(self) -> TaskExample: ...


class TaskBatches:
    """Gives global batches: with ``mixed`` a part of every task, ``in_turn`` one task's after the other."""

    def __init__(self, sources: Mapping[str, Positioned], mode: Mode, turn: int = 0) -> None:
        self.sources, self.mode, self.turn = sources, mode, turn

    @property
    def position(self) -> dict[str, dict[str, int] | int]:
        """Where the next batch begins: each source's place, and how many steps were taken."""
        return {"turn": self.turn, **{f"task {name}": source.position for name, source in self.sources.items()}}

    def __iter__(self) -> Iterator[Sequence[TaskExample]]:
        return self

    def __next__(self) -> Sequence[TaskExample]:
        names = list(self.sources)
        chosen = names if self.mode == "mixed" else [names[self.turn % len(names)]]
        self.turn += 1
        return tuple(next(self.sources[name]) for name in chosen)


@dataclass
class RunningLosses:
    """Each task's loss in the latest steps: running = keep x running + (1 - keep) x step, begun by the first step."""

    keep: float = 0.9
    values: dict[str, float] = field(default_factory=dict)
    _sums: dict[tuple[str, str], float] = field(default_factory=dict)
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, task: str, terms: Terms) -> None:
        """Note a part's terms; parts of a step are added before they are divided."""
        for name, term in terms.items():
            key = (task, name)
            self._sums[key] = self._sums.get(key, 0.0) + term.weight * term.sum.item()
            self._counts[key] = self._counts.get(key, 0) + term.count

    def end_step(self) -> None:
        """Take the step's losses into the running ones."""
        step: dict[str, float] = {}
        for key, total in self._sums.items():
            step[key[0]] = step.get(key[0], 0.0) + total / self._counts[key]
        for task, loss in step.items():
            old = self.values.get(task, loss)
            self.values[task] = self.keep * old + (1.0 - self.keep) * loss
        self._sums.clear()
        self._counts.clear()


@dataclass(frozen=True)
class Penalty:
    """A term of the whole group, such as a soft tie: ``compute`` gives a scalar; it is not additive."""

    name: str
    compute: Callable[[ModelGroup], Tensor]


@dataclass(frozen=True)
class TaskObjective:
    """The objective of a group: each task's own by its name, weighed, and penalties once a step."""

    objectives: Mapping[str, Objective]
    weights: Mapping[str, float]
    penalties: Sequence[Penalty] = ()
    running: RunningLosses = field(default_factory=RunningLosses)

    def terms(self, group: ModelGroup, example: TaskExample) -> Terms:
        """Compute the terms of one part, named ``task.term``; penalties only while training."""
        found = self.objectives[example.task].terms(group.member(example.task), example)
        weight = self.weights[example.task]
        named = {f"{example.task}.{name}": replace(term, weight=term.weight * weight) for name, term in found.items()}
        if torch.is_grad_enabled():
            self.running.add(example.task, found)
            for penalty in self.penalties:
                named[penalty.name] = Term(penalty.compute(group), 1, is_additive=False)
        return named

    def counts(self, example: TaskExample) -> dict[str, int]:
        """Count the part's things; each counts a penalty once, so that a step's sum over count is the penalty."""
        found = self.objectives[example.task].counts(example)
        named = {f"{example.task}.{name}": count for name, count in found.items()}
        return named | {penalty.name: 1 for penalty in self.penalties}

    def objective(self) -> Objective:
        """Give it as the loop takes one."""
        # The loop hands on whatever model and examples it was given: here a group, and examples that know their task.
        return Objective(
            cast("Callable[[LanguageModel, Example], Terms]", self.terms),
            cast("Callable[[Example], dict[str, int]]", self.counts),
        )


TASK_OBJECTIVES = {"classes": SUPERVISED["classes"], "causal": OBJECTIVES["causal"]}
