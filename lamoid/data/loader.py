"""Training batches from token shards: an order that a seed fixes, and a position of two numbers.

What is made of a window of tokens is a view's affair; the loader says which windows come when.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

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
    """What is read and what should be said: ``batch.ids`` and ``targets`` are (B, T); IGNORED is not scored.

    ``source`` names where the rows come from, of data that is mixed from several.
    """

    batch: Batch
    targets: Tensor
    source: str = field(default="", kw_only=True)

    def to(self, device: torch.device | str) -> "TrainingBatch":
        """Give the same batch on ``device``."""
        return replace(self, batch=self.batch.to(device), targets=self.targets.to(device))


@dataclass(frozen=True)
class Windows:
    """Rows of tokens as they lie in the shards, (B, L), and the number of the document that each is in.

    Documents are numbered from 1 in each row; 0 is behind the last token of a row that is shorter. A row's key names
    what is drawn for it: the same window of another epoch has another key. ``shards`` is where they lie, the rows at
    ``begins``, for a view that sets something from elsewhere beside a row.
    """

    tokens: NDArray[np.int64]
    documents: NDArray[np.int64]
    keys: tuple[str, ...]
    shards: Shards | None = None
    begins: tuple[int, ...] = ()


class View(Protocol):
    """Makes an example of windows of ``length`` tokens, each ``stride`` behind the one before.

    What it draws for a row depends on the row and its key alone: neither its company nor an interruption changes it.
    """

    @property
    def length(self) -> int: ...

    @property
    def stride(self) -> int: ...

    def __call__(self, windows: Windows) -> TrainingBatch: ...


@dataclass(frozen=True)
class NextTokens:
    """Reads ``context`` tokens, and wants in each place the one that comes next in the document."""

    context: int

    @property
    def length(self) -> int:
        """A window holds the last target too."""
        return self.context + 1

    @property
    def stride(self) -> int:
        """Each token is a target once."""
        return self.context

    def __call__(self, windows: Windows) -> TrainingBatch:
        """Give ids, segments and targets (B, context)."""
        tokens, documents = windows.tokens, windows.documents
        is_read = documents[:, 1:] != 0
        # A document's last token has no successor: the next one's first token is nothing that could be known.
        targets = np.where(is_read & (documents[:, 1:] == documents[:, :-1]), tokens[:, 1:], IGNORED)
        return TrainingBatch(
            text_batch(tokens[:, :-1] * is_read, documents[:, :-1] * is_read), torch.from_numpy(targets)
        )


def text_batch(ids: NDArray[np.int64], segments: NDArray[np.int64]) -> Batch:
    """Make a batch; where every row is one whole document, it says nothing of segments."""
    marks = None if bool((segments == 1).all()) else torch.from_numpy(segments)
    return Batch(torch.from_numpy(ids), marks)


AHEAD = 1024
"""Places of an order that are worked out at once: for a few at a time, finding a row costs more than reading it."""


class Loader:
    """Gives a view's examples without end, epoch after epoch, each epoch in an order of its own.

    The windows of an epoch lie ``view.stride`` apart from a random offset on, so epochs cut differently. Order and
    offset depend on ``seed`` and the epoch alone. With ``ranks`` processes, each takes its slice of the same
    global batch of ``batch`` rows. ``position`` is where the next batch begins; a Loader made with it goes on there.
    """

    def __init__(
        self,
        shards: Shards,
        view: View,
        *,
        batch: int,
        seed: int,
        position: dict[str, int] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        _check_sizes(view, batch)
        if not 0 <= rank < ranks or batch % ranks:
            raise InputError("batch", f"{batch} rows do not part evenly over {ranks} processes", "choose a multiple")
        if len(shards) < view.length:
            raise InputError(
                shards.folder,
                f"has {len(shards)} tokens, a window takes {view.length}",
                "prepare more text or choose a smaller context",
            )
        self.shards, self.view, self.batch, self.seed = shards, view, batch, seed
        self._rank, self._ranks = rank, ranks
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
        return self.take(self.batch)

    def take(self, rows: int) -> TrainingBatch:
        """Give the next ``rows`` windows, of which this rank has its slice: the same ones, however they are parted."""
        begins: list[int] = []
        keys: list[str] = []
        while len(begins) < rows:
            if self._index >= self._order.size:
                self._epoch, self._index = self._epoch + 1, 0
                self._open_epoch()
            end = min(self._order.size, self._index + rows - len(begins))
            begins += [self._offset + place * self.view.stride for place in self._stretch(self._index, end)]
            keys += [f"{self.seed}/{self._epoch}/{index}" for index in range(self._index, end)]
            self._index = end
        mine = slice(self._rank * rows // self._ranks, (self._rank + 1) * rows // self._ranks)
        return self.view(_windows(self.shards, self.view, begins[mine], tuple(keys[mine])))

    def _open_epoch(self) -> None:
        key = f"{self.seed}/{self._epoch}"
        room = min(self.view.stride, len(self.shards) - self.view.length + 1)
        self._offset = Permutation(room, f"offset/{key}")[0]
        shared = self.view.length - self.view.stride
        windows = (len(self.shards) - shared - self._offset) // self.view.stride
        self._order = Permutation(windows, f"order/{key}")
        self._known_from, self._known = 0, []

    def _stretch(self, begin: int, end: int) -> list[int]:
        """Give what stands in the epoch's order from ``begin`` to before ``end``, and remember some that follow."""
        if not self._known_from <= begin <= end <= self._known_from + len(self._known):
            self._known = self._order.stretch(begin, min(self._order.size, max(end, begin + AHEAD)))
            self._known_from = begin
        return self._known[begin - self._known_from : end - self._known_from]


def sequential(shards: Shards, view: View, *, batch: int) -> Iterator[TrainingBatch]:
    """Give windows side by side from the first token on, once: of next tokens, each target is scored exactly once.

    The last window may be shorter; what a view draws is the same every time.
    """
    _check_sizes(view, batch)
    shared = view.length - view.stride
    begins = range(0, len(shards) - shared, view.stride)
    for at in range(0, len(begins), batch):
        chosen = begins[at : at + batch]
        yield view(_windows(shards, view, chosen, tuple(f"sequential/{begin}" for begin in chosen)))


def _check_sizes(view: View, batch: int) -> None:
    if not 1 <= view.stride <= view.length or batch < 1:
        raise InputError("context, batch", f"{view.stride} and {batch} must be 1 or more", "raise them")


def _windows(shards: Shards, view: View, begins: Sequence[int], keys: tuple[str, ...]) -> Windows:
    """Read a window at each place; one that goes beyond the end is shorter."""
    tokens, documents = shards.windows(begins, view.length)
    return Windows(tokens, documents, keys, shards, tuple(begins))


def _checked_position(position: dict[str, int] | None) -> tuple[int, int]:
    if position is None:
        return 0, 0
    values = [position.get(key) for key in ("epoch", "index")] if isinstance(position, dict) else []
    if len(values) != 2 or set(position) != {"epoch", "index"} or any(type(v) is not int or v < 0 for v in values):
        raise InputError("position", f"{position} is not an epoch and an index", "use what `position` gave")
    return position["epoch"], position["index"]
