"""Several writers of one result: which slices are whose, and the files that they write into side by side."""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import torch
from torch import Tensor

from lamoid.fusion.output import JOURNAL_BYTES
from lamoid.weights.journal import Journal
from lamoid.weights.layout import Shard, info_bytes
from lamoid.weights.placed import PlacedFile

Span = tuple[int, int]


class Parts:
    """The bytes of all files, cut into ``count`` stretches of about the same length, at the beginnings of slices."""

    def __init__(self, shards: Sequence[Shard], count: int) -> None:
        self.count = count
        self.places: dict[str, tuple[int, int, torch.dtype]] = {}
        self._starts: dict[str, int] = {}
        self.total = 0
        for number, shard in enumerate(shards):
            here = len(shard.header)
            for info in shard.infos:
                self.places[info[0]] = (number, here, info[1])
                self._starts[info[0]] = self.total
                here += info_bytes(info)
                self.total += info_bytes(info)

    def owner(self, name: str, span: Span) -> int:
        """Say which writer a slice belongs to, by the place of its first byte."""
        first = self._starts[name] + span[0] * self.places[name][2].itemsize
        return first * self.count // max(1, self.total)


class PartOutput:
    """Writes one writer's slices, which it is given in order, into files that are there in their full size."""

    def __init__(self, folder: Path, shards: Sequence[Shard], parts: Parts, journal: Journal | None) -> None:
        self._folder, self._shards, self._parts, self._journal = folder, list(shards), parts, journal
        self._file: PlacedFile | None = None
        self._number, self._noted, self._reach = -1, 0, 0

    def done(self, name: str) -> int:
        """Count the bytes of a tensor that an earlier run of this writer has put safely into its file."""
        number, begin, _ = self._parts.places[name]
        return 0 if self._journal is None else max(self._journal.safe.get(self._shards[number].name, 0) - begin, 0)

    def room(self, name: str, span: Span) -> Tensor:
        """Give room for a slice."""
        return torch.empty(span[1], dtype=self._parts.places[name][2])

    def put(self, name: str, span: Span, room: Tensor, fused: Future[None]) -> None:
        """Write a slice when it is there."""
        fused.result()
        number, begin, dtype = self._parts.places[name]
        place = begin + span[0] * dtype.itemsize
        if number != self._number:
            self._close()
            shard = self._shards[number]
            safe = 0 if self._journal is None else self._journal.safe.get(shard.name, 0)
            self._file = PlacedFile(self._folder / shard.name, shard.size, {}, start=max(place, safe), end=shard.size)
            self._number, self._noted = number, self._file.position
        if self._file is not None:
            view = room.view(torch.uint8).numpy().data
            self._file.write(view[self._file.position - place :])
            if self._journal is not None and self._file.position - self._noted >= JOURNAL_BYTES:
                self._noted = self._file.sync()
                self._journal.note(self._shards[number].name, self._noted)

    def finish(self) -> None:
        """Write and sync what is left."""
        self._close()

    def abandon(self) -> None:
        """Let go of the file; after ``finish`` this does nothing."""
        if self._file is not None:
            self._file.abandon()

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.end_here()
            if self._journal is not None:
                self._journal.note(self._shards[self._number].name, file.position)
