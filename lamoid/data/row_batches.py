"""Rows of tokens with something to be learnt about each, and batches of them, padded at the end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.likelihood import IGNORED

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class RowBatch:
    """What is read, and the targets, whose form is the objective's affair."""

    batch: Batch
    targets: Tensor

    def to(self, device: torch.device | str) -> "RowBatch":
        """Give the same batch on ``device``."""
        return RowBatch(self.batch.to(device), self.targets.to(device))


@dataclass(frozen=True)
class TextRows:
    """One target for each text: ``targets`` (N,) or (N, count); ``types`` only where a model tells two texts apart."""

    task: str
    ids: Sequence[Numbers]
    targets: Tensor
    types: Sequence[Numbers] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Tensor:
        """Give the tokens of each row, (N,)."""
        return torch.tensor([len(row) for row in self.ids])

    def batch(self, rows: Tensor) -> RowBatch:
        """Give these rows, as wide as the longest of them."""
        chosen = rows.tolist()
        types = None if self.types is None else padded([self.types[row] for row in chosen])
        return RowBatch(_batch([self.ids[row] for row in chosen], types=types), self.targets[rows])


@dataclass(frozen=True)
class TokenRows:
    """A target for each token; ``segments`` number the texts of a row that holds several."""

    task: str
    ids: Sequence[Numbers]
    targets: Sequence[Numbers]
    segments: Sequence[Numbers] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Tensor:
        """Give the tokens of each row, (N,)."""
        return torch.tensor([len(row) for row in self.ids])

    def batch(self, rows: Tensor) -> RowBatch:
        """Give these rows, as wide as the longest of them."""
        chosen = rows.tolist()
        segments = None if self.segments is None else padded([self.segments[row] for row in chosen])
        targets = padded([self.targets[row] for row in chosen], IGNORED)
        return RowBatch(_batch([self.ids[row] for row in chosen], segments=segments), targets)


@dataclass(frozen=True)
class SourceRows:
    """A source to read and a text to write: of ``ids`` each token is read, ``targets`` are what comes after each."""

    task: str
    source: Sequence[Numbers]
    ids: Sequence[Numbers]
    targets: Sequence[Numbers]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Tensor:
        """Give the tokens of each row and its source, (N,)."""
        return torch.tensor([len(ids) + len(source) for ids, source in zip(self.ids, self.source, strict=True)])

    def batch(self, rows: Tensor) -> RowBatch:
        """Give these rows, each side as wide as its longest."""
        chosen = rows.tolist()
        written = _batch([self.ids[row] for row in chosen])
        whole = Batch(written.ids, written.segments, source=_batch([self.source[row] for row in chosen]))
        return RowBatch(whole, padded([self.targets[row] for row in chosen], IGNORED))


def padded(rows: Sequence[Numbers], filler: int = 0) -> Tensor:
    """Put rows into one table (B, T), what is missing at their ends being ``filler``."""
    table = np.full((len(rows), max(len(row) for row in rows)), filler, np.int64)
    for place, row in zip(table, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(table)


def pack(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Lay texts into rows of at most ``room`` tokens, each into the first row that has place: longest first.

    First-fit decreasing; of equals the earlier comes first. Give the texts of each row in their own order.
    """
    left = np.zeros(len(lengths), np.int64)
    rows: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        fitting = np.flatnonzero(left[: len(rows)] >= lengths[index])
        row = int(fitting[0]) if len(fitting) else len(rows)
        if row == len(rows):
            rows.append([])
            left[row] = room
        rows[row].append(index)
        left[row] -= lengths[index]
    return [sorted(row) for row in rows]


def _batch(rows: Sequence[Numbers], *, segments: Tensor | None = None, types: Tensor | None = None) -> Batch:
    """Make a batch; padding is marked with segment 0."""
    if segments is None:
        lengths = torch.tensor([len(row) for row in rows])
        segments = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    return Batch(padded(rows), segments, types)
