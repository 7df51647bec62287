"""Training batches from token shards: an order that a seed fixes, and a position of two numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.likelihood import IGNORED
from lamoid.data.permutation import Permutation
from lamoid.data.shards import Shards
from lamoid.errors import InputError


@dataclass(frozen=True)
class TrainingBatch:
    """What is read and what should come next: ``batch.ids`` and ``targets`` are (B, T); IGNORED is not scored."""

    batch: Batch
    targets: Tensor

    def to(self, device: torch.device | str) -> "TrainingBatch":
        """Give the same batch on ``device``."""
        return TrainingBatch(self.batch.to(device), self.targets.to(device))


class Loader:
    """Gives batches of windows without end, epoch after epoch, each epoch in an order of its own.

    The windows of an epoch lie side by side (stride = context) from a random offset on, so epochs cut differently.
    Order and offset depend on ``seed`` and the epoch alone. With ``ranks`` processes, each takes its slice of the same
    global batch of ``batch`` rows. ``position`` is where the next batch begins; a Loader made with it goes on there.
    """

    def __init__(
        self,
        shards: Shards,
        *,
        context: int,
        batch: int,
        seed: int,
        position: dict[str, int] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if context < 1 or batch < 1:
            raise InputError("context, batch", f"{context} and {batch} must be 1 or more", "raise them")
        if not 0 <= rank < ranks or batch % ranks:
            raise InputError("batch", f"{batch} rows do not part evenly over {ranks} processes", "choose a multiple")
        if len(shards) < context + 1:
            raise InputError(
                shards.folder,
                f"has {len(shards)} tokens, a window takes {context + 1}",
                "prepare more text or choose a smaller context",
            )
        self.shards, self.context, self.batch, self.seed = shards, context, batch, seed
        self._rows = range(rank * batch // ranks, (rank + 1) * batch // ranks)
        self._epoch, self._index = _checked_position(position)
        self._open_epoch()
        if self._index > self._order.size:
            raise InputError("position", f"index {self._index} of {self._order.size}", "use the data it was saved for")

    @property
    def position(self) -> dict[str, int]:
        """Where the next batch begins: the epoch, and how many of its windows are used."""
        return {"epoch": self._epoch, "index": self._index}

    def __iter__(self) -> Iterator[TrainingBatch]:
        return self

    def __next__(self) -> TrainingBatch:
        begins: list[int] = []
        for _ in range(self.batch):
            if self._index >= self._order.size:
                self._epoch, self._index = self._epoch + 1, 0
                self._open_epoch()
            begins.append(self._offset + self._order[self._index] * self.context)
            self._index += 1
        windows = [self.shards.window(begins[row], self.context + 1) for row in self._rows]
        return _training_batch(windows, self.context)

    def _open_epoch(self) -> None:
        key = f"{self.seed}/{self._epoch}"
        room = min(self.context, len(self.shards) - self.context)
        self._offset = Permutation(room, f"offset/{key}")[0]
        self._order = Permutation((len(self.shards) - 1 - self._offset) // self.context, f"order/{key}")


def sequential(shards: Shards, *, context: int, batch: int) -> Iterator[TrainingBatch]:
    """Give windows side by side from the first token on, once, so that each target is scored exactly once.

    The last window may be shorter; it is padded on the right with segment 0 and IGNORED targets.
    """
    if context < 1 or batch < 1:
        raise InputError("context, batch", f"{context} and {batch} must be 1 or more", "raise them")
    begins = range(0, len(shards) - 1, context)
    for at in range(0, len(begins), batch):
        windows = [shards.window(b, min(context + 1, len(shards) - b)) for b in begins[at : at + batch]]
        yield _training_batch(windows, context)


def _training_batch(windows: list[tuple[NDArray[np.int64], NDArray[np.int64]]], context: int) -> TrainingBatch:
    ids = np.zeros((len(windows), context), np.int64)
    segments = np.zeros((len(windows), context), np.int64)
    targets = np.full((len(windows), context), IGNORED, np.int64)
    for row, (tokens, documents) in enumerate(windows):
        length = len(tokens) - 1
        ids[row, :length] = tokens[:-1]
        segments[row, :length] = documents[:-1] - documents[0] + 1
        # A document's last token has no successor: the next one's first token is nothing that could be known.
        targets[row, :length] = np.where(documents[1:] == documents[:-1], tokens[1:], IGNORED)
    marks = None if bool((segments == 1).all()) else torch.from_numpy(segments)
    return TrainingBatch(Batch(torch.from_numpy(ids), marks), torch.from_numpy(targets))


def _checked_position(position: dict[str, int] | None) -> tuple[int, int]:
    if position is None:
        return 0, 0
    values = [position.get(key) for key in ("epoch", "index")] if isinstance(position, dict) else []
    if len(values) != 2 or set(position) != {"epoch", "index"} or any(type(v) is not int or v < 0 for v in values):
        raise InputError("position", f"{position} is not an epoch and an index", "use what `position` gave")
    return position["epoch"], position["index"]
