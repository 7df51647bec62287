"""Where fused slices go: into files in the order of the layout, by a thread of its own."""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from lamoid.weights.durable import Draft
from lamoid.weights.index import INDEX
from lamoid.weights.layout import Shard, index_bytes, info_bytes
from lamoid.weights.placed import PlacedFile

JOURNAL_BYTES = 256 << 20
"""Bytes after which what is written is synced and noted."""


class Output:
    """Takes slices in the order of the layout, and writes them from a thread of its own.

    ``room`` waits until one of the buffers is free. What the thread fails with, ``room`` or ``finish`` raises.
    """

    def __init__(
        self, draft: Draft, shards: Sequence[Shard], advance: Callable[[int], None] | None, *, verify: bool = False
    ) -> None:
        self._verify = verify
        self._draft, self._shards, self._advance = draft, list(shards), advance
        self._places: dict[str, tuple[int, int]] = {}
        self._dtypes: dict[str, torch.dtype] = {}
        for number, shard in enumerate(self._shards):
            begin = len(shard.header)
            for info in shard.infos:
                self._places[info[0]] = (number, begin)
                self._dtypes[info[0]] = info[1]
                begin += info_bytes(info)
        self._free: queue.SimpleQueue[Tensor] = queue.SimpleQueue()
        self._buffers: dict[int, Tensor] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fusion-output")
        self._jobs: list[Future[None]] = []
        self._has_failed = False
        self._file: PlacedFile | None = None
        self._number, self._noted = -1, 0

    def make_room(self, buffers: int, buffer_bytes: int) -> None:
        """Make the buffers."""
        for _ in range(buffers):
            buffer = torch.empty(buffer_bytes, dtype=torch.uint8)
            self._buffers[buffer.data_ptr()] = buffer
            self._free.put(buffer)

    def done(self, name: str) -> int:
        """Count the bytes of a tensor, from its beginning, that an earlier writer has put safely into its file."""
        number, begin = self._places[name]
        journal = self._draft.journal
        return 0 if journal is None else max(journal.safe.get(self._shards[number].name, 0) - begin, 0)

    def room(self, name: str, span: tuple[int, int]) -> Tensor:
        """Give room for a slice, which belongs to the caller until it is handed to ``put``."""
        dtype = self._dtypes[name]
        buffer = self._free.get()
        self._check()
        return buffer[: span[1] * dtype.itemsize].view(dtype)

    def put(self, name: str, span: tuple[int, int], room: Tensor, fused: Future[None]) -> None:
        """Take a slice of a tensor, which is in ``room`` when the future is done."""
        self._jobs.append(self._thread.submit(self._write, name, span[0] * room.itemsize, room, fused))
        while self._jobs and self._jobs[0].done():
            self._jobs.pop(0).result()

    def finish(self) -> None:
        """Wait until all is written; write the index if there are several files."""
        self._jobs.append(self._thread.submit(self._open_until, len(self._shards)))
        for job in self._jobs:
            job.result()
        self._thread.shutdown()
        if len(self._shards) > 1:
            self._draft.write(INDEX, index_bytes(self._shards))

    def abandon(self) -> None:
        """End the thread and let go of the file, wherever it is; after ``finish`` this does nothing."""
        self._has_failed = True
        self._thread.shutdown(cancel_futures=True)
        if self._file is not None:
            self._file.abandon()

    def _check(self) -> None:
        if self._has_failed:
            for job in self._jobs:
                job.result()

    def _write(self, name: str, first: int, room: Tensor, fused: Future[None]) -> None:
        is_written = False
        try:
            if self._has_failed:
                return
            fused.result()
            number, begin = self._places[name]
            self._open_until(number)
            file = self._file
            view = room.view(torch.uint8).numpy().data
            if file is not None:
                known = file.position - begin - first
                if known < 0:
                    raise ValueError(f"{name!r}: the slice at byte {first} comes too soon")
                file.write(view[known:])
                self._note(file)
            if self._advance is not None:
                self._advance(view.nbytes)
            is_written = True
        finally:
            self._has_failed = self._has_failed or not is_written
            self._free.put(self._buffers[room.data_ptr()])

    def _note(self, file: PlacedFile) -> None:
        if self._draft.journal is not None and file.position - self._noted >= JOURNAL_BYTES:
            self._noted = file.sync()
            self._draft.journal.note(self._shards[self._number].name, self._noted)

    def _open_until(self, number: int) -> None:
        """Close the files before the one of this number, and open it."""
        while self._number < number:
            if self._file is not None:
                file, self._file = self._file, None
                file.close(verify=self._verify)
                if self._draft.journal is not None:
                    self._draft.journal.note(self._shards[self._number].name, file.position)
            self._number += 1
            if self._number < len(self._shards):
                shard = self._shards[self._number]
                self._file = self._draft.place(shard.name, shard.size)
                self._noted = self._file.position
                self._file.write(memoryview(shard.header)[self._file.position :])
