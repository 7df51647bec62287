"""Several sources mixed by weight: each step's rows are shared out among them, and each part of a step is of one."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Protocol

from lamoid.data.loader import TrainingBatch
from lamoid.errors import InputError


class Source(Protocol):
    """Rows without end, taken in an order of their own."""

    @property
    def position(self) -> dict[str, int]: ...

    def take(self, rows: int) -> TrainingBatch: ...


class Mixture:
    """Gives parts of at most ``batch`` rows, each of one source, that name it.

    How many rows of a step each source gives depends on the weights, ``seed`` and the step alone: weight x rows, to the
    next whole number up or down, and exactly that on average (systematic sampling, Madow 1949). Which rows those are,
    the source says: of each it is its first, second, third and so on, whatever the weights.
    """

    def __init__(
        self, sources: Mapping[str, Source], weights: Mapping[str, float], *, batch: int, seed: int, step: int = 0
    ) -> None:
        self.sources, self.batch, self.seed, self.step = sources, batch, seed, step
        total = sum(weights[name] for name in sources)
        self._shares = {name: weights[name] / total for name in sources}
        self._parts = self.steps(1)
        self._waiting: list[TrainingBatch] = []

    @property
    def position(self) -> dict[str, Any]:
        """Where the next step begins: how many there were, and each source's own place."""
        return {"step": self.step, **{f"source {name}": source.position for name, source in self.sources.items()}}

    def __iter__(self) -> Iterator[TrainingBatch]:
        return self

    def __next__(self) -> TrainingBatch:
        """Give the next part of steps of ``batch`` rows."""
        if not self._waiting:
            self._waiting = list(next(self._parts))
        return self._waiting.pop(0)

    def steps(self, accumulation: int) -> Iterator[Sequence[TrainingBatch]]:
        """Give steps of ``batch`` x ``accumulation`` rows, each in the parts that it takes."""
        while True:
            rows = share_out(self._shares, self.batch * accumulation, f"{self.seed}/{self.step}")
            self.step += 1
            yield tuple(part for name, count in rows.items() for part in self._take(name, count))

    def _take(self, name: str, rows: int) -> Iterator[TrainingBatch]:
        for begin in range(0, rows, self.batch):
            yield replace(self.sources[name].take(min(self.batch, rows - begin)), source=name)


def share_out(shares: Mapping[str, float], rows: int, key: str) -> dict[str, int]:
    """Part ``rows`` by ``shares``, which add up to 1: each gets floor or ceil of share x rows, as ``key`` draws.

    On a line where each share takes its stretch, points at (k + u) / rows for one u from [0, 1) are counted.
    """
    draw = int.from_bytes(hashlib.sha256(f"mixture/{key}".encode()).digest()[:8], "big") / 2**64
    ends = list(accumulate(shares.values()))
    # The points before the place x are those of k below x rows - u; the last place is the end, however it was rounded.
    before = [0, *(min(rows, max(0, -int(-(end * rows - draw) // 1))) for end in ends[:-1]), rows]
    return {name: before[at + 1] - before[at] for at, name in enumerate(shares)}


def source_seed(seed: int, name: str) -> int:
    """Draw a source's own seed, so that sources of one size do not go through their rows alike."""
    return int.from_bytes(hashlib.sha256(f"source/{seed}/{name}".encode()).digest()[:7], "big")


def check_position(position: Any, names: Sequence[str]) -> None:
    """Raise ``InputError`` for what is no position of a mixture of these sources."""
    wanted = {"step", *(f"source {name}" for name in names)}
    is_one = isinstance(position, dict) and set(position) == wanted
    if not is_one or type(position["step"]) is not int or position["step"] < 0:
        raise InputError("position", f"{str(position)[:200]} is none of these sources", "use what `position` gave")
