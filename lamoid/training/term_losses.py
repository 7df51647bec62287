"""What each term of the objective was, by source of the data, in every step: the parts that a loss is made of."""

import math
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lamoid.training.objectives import Example, Terms

_MOST_PENDING = 4096


@runtime_checkable
class Sourced(Protocol):
    """An example that says which source of the data it comes from; ``""`` where there is but one."""

    @property
    def source(self) -> str: ...


def source_of(example: Example) -> str:
    """Give the name of the example's source, ``""`` for one that has none."""
    return example.source if isinstance(example, Sourced) else ""


class TermLosses:
    """Keeps, for each term and source, the weighed sum and the count of every step.

    A step's loss of a term is sum / count over all its sources; the loss of the step is the sum of its terms'. Of
    several steps a source's loss is sum / count over all of them: steps in which it had more rows weigh more.
    A sum that is no number is left out, as its step is of the mean loss. Sums stay on their device until somebody
    asks, so that no step waits for it.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._sums: dict[tuple[str, str], list[float]] = {}
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._pending: list[tuple[int, tuple[str, str], Tensor, int]] = []

    def __len__(self) -> int:
        """Give the number of steps that were ended."""
        return self._steps

    def note(self, source: str, terms: Terms) -> None:
        """Note the terms of one part of the step that is being made."""
        for name, term in terms.items():
            self._pending.append((self._steps, (source, name), term.weight * term.sum.detach(), term.count))

    def end_step(self) -> None:
        """Close the step; what is noted from now on is the next one's."""
        self._steps += 1
        if len(self._pending) > _MOST_PENDING:
            self._settle()

    def means(self, steps: int) -> dict[str, float]:
        """Give the mean of each term over those of the last ``steps`` that have it, and with sources of each one's.

        Named ``term`` and ``source/term``.
        """
        self._settle()
        found = {name: _mean([loss for _, loss in losses if loss is not None]) for name, losses in self._recent(steps)}
        for (source, name), sums in self._sums.items():
            count = sum(self._counts[source, name][-steps:])
            if source and count:
                found[f"{source}/{name}"] = sum(sums[-steps:]) / count
        return {name: loss for name, loss in found.items() if loss is not None}

    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """Give each term's loss in every step that has it, as pairs of step (from 1) and loss."""
        self._settle()
        recent = self._recent(self._steps)
        return {name: [(step, loss) for step, loss in losses if loss is not None] for name, losses in recent}

    def tensors(self) -> dict[str, Tensor]:
        """Give the sums (steps,) in float64 and the counts (steps,), named ``sum/source/term``, for a checkpoint."""
        self._settle()
        named = {f"sum/{_joined(key)}": torch.tensor(sums, dtype=torch.float64) for key, sums in self._sums.items()}
        named |= {f"count/{_joined(key)}": torch.tensor(counts) for key, counts in self._counts.items()}
        return {"steps": torch.tensor(self._steps), **named}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what ``tensors`` gave."""
        self._steps = int(tensors["steps"])
        self._pending.clear()
        parted = {name.partition("/")[::2]: value for name, value in tensors.items() if name != "steps"}
        self._sums = {_parted(key): value.tolist() for (kind, key), value in parted.items() if kind == "sum"}
        self._counts = {_parted(key): value.tolist() for (kind, key), value in parted.items() if kind == "count"}

    def _recent(self, steps: int) -> Iterator[tuple[str, list[tuple[int, float | None]]]]:
        """Give each term with the last ``steps`` steps' losses, ``None`` for those that lack it."""
        first = max(0, self._steps - steps)
        for term in dict.fromkeys(name for _, name in self._sums):
            keys = [key for key in self._sums if key[1] == term]
            losses: list[tuple[int, float | None]] = []
            for step in range(first, self._steps):
                count = sum(self._counts[key][step] for key in keys)
                losses.append((step + 1, sum(self._sums[key][step] for key in keys) / count if count else None))
            yield term, losses

    def _settle(self) -> None:
        """Read all sums at once, and give every term and source a place in each step."""
        values = torch.stack([total.double() for *_, total, _ in self._pending]).tolist() if self._pending else []
        for (step, key, _, count), value in zip(self._pending, values, strict=True):
            sums, counts = self._sums.setdefault(key, []), self._counts.setdefault(key, [])
            missing = step + 1 - len(sums)
            sums.extend([0.0] * missing)
            counts.extend([0] * missing)
            if math.isfinite(value):
                sums[step] += value
                counts[step] += count
        self._pending.clear()
        for key, sums in self._sums.items():
            missing = self._steps - len(sums)
            sums.extend([0.0] * missing)
            self._counts[key].extend([0] * missing)


def _mean(losses: list[float]) -> float | None:
    return sum(losses) / len(losses) if losses else None


def _joined(key: tuple[str, str]) -> str:
    """Write source and term as one name; a source has no slash in it."""
    return "/".join(key)


def _parted(name: str) -> tuple[str, str]:
    source, _, term = name.partition("/")
    return source, term
