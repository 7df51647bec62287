"""Texts of one task as a table of token ids, and batches of it in an order that a seed fixes.

A row is one text. Its target is its label, or, in each place, the token that comes next.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.likelihood import IGNORED
from lamoid.data.permutation import Permutation
from lamoid.errors import InputError

Keep = Literal["start", "end"]
Given = TypeVar("Given", covariant=True)


class Rows(Protocol[Given]):
    """Rows of a task, any of which make a batch."""

    @property
    def task(self) -> str: ...

    @property
    def lengths(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def batch(self, rows: Tensor) -> Given: ...


@dataclass(frozen=True)
class TaskBatch:
    """What one task reads, and its targets: class numbers (B,), or next tokens (B, T), IGNORED where none follows."""

    task: str
    batch: Batch
    targets: Tensor


@dataclass(frozen=True)
class TaskRows:
    """``ids`` (N, T) int32, padded at the end, ``lengths`` (N,); ``labels`` (N,), ``None`` where tokens are said."""

    task: str
    ids: Tensor
    lengths: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: Tensor) -> TaskBatch:
        """Give these rows, as wide as the longest of them."""
        lengths = self.lengths[rows]
        ids = self.ids[rows, : int(lengths.max())].long()
        segments = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        if self.labels is not None:
            return TaskBatch(self.task, Batch(ids, segments), self.labels[rows])
        # The last token has nothing behind it, so it is a target alone.
        targets = torch.where(segments[:, 1:] != 0, ids[:, 1:], IGNORED)
        return TaskBatch(self.task, Batch(ids[:, :-1], segments[:, 1:]), targets)


def label_rows(
    task: str, encoded: Sequence[Sequence[int]], labels: Sequence[int], context: int, keep: Keep
) -> TaskRows:
    """Make rows of at most ``context`` tokens: of a longer text the first ones, or the last."""
    cut = [ids[:context] if keep == "start" else ids[-context:] for ids in encoded]
    return _rows(task, cut, torch.tensor(labels))


def next_token_rows(task: str, encoded: Sequence[Sequence[int]], context: int) -> TaskRows:
    """Cut texts into windows, in which each token but a text's first is a target once."""
    cut = [ids[at : at + context + 1] for ids in encoded for at in range(0, len(ids) - 1, context)]
    return _rows(task, cut, None)


def _rows(task: str, cut: Sequence[Sequence[int]], labels: Tensor | None) -> TaskRows:
    if not cut or not all(cut):
        raise InputError(f"tasks.{task}", "has no text, or one without a token", "give longer texts")
    lengths = torch.tensor([len(ids) for ids in cut])
    table = np.zeros((len(cut), int(lengths.max())), np.int32)
    for row, ids in zip(table, cut, strict=True):
        row[: len(ids)] = ids
    return TaskRows(task, torch.from_numpy(table), lengths, labels)


class TaskLoader(Generic[Given]):
    """Gives batches of ``batch`` rows without end, epoch after epoch, each epoch in an order of its own.

    ``position`` is where the next batch begins; a loader made with it goes on there.
    """

    def __init__(self, rows: Rows[Given], *, batch: int, seed: int, position: dict[str, int] | None = None) -> None:
        self.rows, self.batch, self.seed = rows, batch, seed
        self._epoch, self._index = (0, 0) if position is None else (position["epoch"], position["index"])
        self._open_epoch()

    @property
    def position(self) -> dict[str, int]:
        """Where the next batch begins: the epoch, and how many of its rows are used."""
        return {"epoch": self._epoch, "index": self._index}

    def __iter__(self) -> "TaskLoader[Given]":
        return self

    def __next__(self) -> Given:
        chosen: list[Tensor] = []
        wanted = self.batch
        while wanted:
            if self._index >= len(self._order):
                self._epoch, self._index = self._epoch + 1, 0
                self._open_epoch()
            chosen.append(self._order[self._index : self._index + wanted])
            wanted -= len(chosen[-1])
            self._index += len(chosen[-1])
        return self.rows.batch(torch.cat(chosen))

    def _open_epoch(self) -> None:
        order = Permutation(len(self.rows), f"rows/{self.rows.task}/{self.seed}/{self._epoch}")
        self._order = torch.tensor([order[index] for index in range(len(self.rows))])


def by_length(rows: Rows[Given], batch: int) -> Iterator[tuple[Tensor, Given]]:
    """Give every row once, those of like length together so that little is padding, with the rows' numbers."""
    order = torch.argsort(rows.lengths, stable=True)
    for part in order.split(batch):
        yield part, rows.batch(part)
