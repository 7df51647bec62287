"""Token shards read through a memory map: any stretch of tokens, and which document each belongs to."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamoid.contained import contained, is_there
from lamoid.data.files import open_source
from lamoid.data.manifest import BOUNDARIES, CURE, Manifest, read_corpus
from lamoid.errors import InputError


@dataclass(frozen=True)
class Shards:
    """The tokens of a prepared folder, or of a stretch of it, as one sequence of ``len(shards)``.

    ``first`` and ``last`` bound the stretch in the whole sequence; ``manifest`` always describes the whole folder.
    """

    folder: Path
    manifest: Manifest
    maps: tuple[NDArray[np.unsignedinteger], ...]
    starts: NDArray[np.int64]
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first

    def window(self, begin: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the tokens from ``begin`` on and the number of the document that each is in, both (length,).

        Documents are numbered over the whole folder from 1. Raise InputError for a token that no tokenizer gave.
        """
        if not 0 <= begin < begin + length <= len(self):
            raise IndexError(f"tokens {begin} to {begin + length} of {len(self)}")
        begin += self.first
        ids = self._read(begin, begin + length)
        # Documents that begin inside, found in the sorted starts without touching the rest of them.
        low, high = np.searchsorted(self.starts, np.array([begin, begin + length - 1], np.int64), side="right")
        return ids, low + np.cumsum(np.bincount(self.starts[low:high] - begin, minlength=length))

    def windows(self, begins: Sequence[int], length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give ``length`` tokens from each place on and the number of the document that each is in, both (B, length).

        Documents are numbered from 1 in each row; behind the last token stand zeros. Raise InputError for a token that
        no tokenizer gave.
        """
        first = np.asarray(begins, np.int64) + self.first
        room = np.minimum(self.last - first, length)
        if len(first) and (int(first.min()) < self.first or int(room.min()) < 1):
            raise IndexError(f"tokens from {int(first.min()) - self.first} and {int(first.max()) - self.first} on")
        tokens = np.zeros((len(first), length), np.int64)
        self._gather(first, room, tokens)
        if tokens.size and int(tokens.max()) >= self.manifest.vocab:
            for begin, count in zip(first.tolist(), room.tolist(), strict=True):
                self._read(begin, begin + count)
        low, high = np.searchsorted(self.starts, np.stack([first, first + room - 1]), side="right")
        documents = np.ones((len(first), length), np.int64)
        if bool((high > low).any()):
            counts = high - low
            rows = np.repeat(np.arange(len(first)), counts)
            inside = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + low[rows]
            places = rows * length + self.starts[inside] - first[rows]
            opened = np.bincount(places, minlength=documents.size).reshape(documents.shape)
            documents += np.cumsum(opened, axis=1)
        if bool((room < length).any()):
            documents[np.arange(length) >= room[:, None]] = 0
        return tokens, documents

    def part(self, begin: float, end: float) -> "Shards":
        """Give the stretch between two fractions of the tokens, such as the last tenth: ``part(0.9, 1)``."""
        if not 0 <= begin < end <= 1:
            raise InputError("part", f"{begin} to {end} is no stretch between 0 and 1", "choose 0 <= begin < end <= 1")
        length = len(self)
        return replace(self, first=self.first + round(length * begin), last=self.first + round(length * end))

    def check_tokenizer(self, fingerprint: str) -> None:
        """Raise InputError unless the tokenizer of this fingerprint made the tokens."""
        if fingerprint != self.manifest.tokenizer:
            raise InputError(
                self.folder,
                f"was made with another tokenizer ({self.manifest.tokenizer[:12]}) than the model's "
                f"({fingerprint[:12]})",
                "prepare the data again with the model's tokenizer",
            )

    def _gather(self, first: NDArray[np.int64], room: NDArray[np.int64], tokens: NDArray[np.int64]) -> None:
        """Read rows of ``room`` tokens from the places ``first`` of the whole sequence into a table (B, length)."""
        length = tokens.shape[1]
        ends = np.cumsum([len(ids) for ids in self.maps])
        shards = np.searchsorted(ends, first, side="right")
        is_inside = (room == length) & (first + length <= ends[shards])
        for number in set(shards[is_inside].tolist()):
            rows = is_inside & (shards == number)
            # All rows of a shard at once: a slice of a memory map, row by row, costs more than to copy it.
            every = _every_window(self.maps[number], length)
            tokens[rows] = every[first[rows] - (ends[number] - len(self.maps[number]))]
        for row in np.flatnonzero(~is_inside).tolist():
            number = int(shards[row])
            self._copy(int(first[row] - ends[number]), number, tokens[row, : room[row]])

    def _copy(self, begin: int, number: int, into: NDArray[np.int64]) -> None:
        """Copy tokens, as many as there is room for, the first of them ``begin`` (below 0) from the end of a shard."""
        done = 0
        while done < len(into):
            tokens = self.maps[number]
            part = tokens[len(tokens) + begin :][: len(into) - done]
            into[done : done + len(part)] = part
            done, number = done + len(part), number + 1
            begin = -len(self.maps[number]) if done < len(into) else 0

    def _read(self, begin: int, end: int) -> NDArray[np.int64]:
        found: list[NDArray[np.int64]] = []
        at = 0
        for number, tokens in enumerate(self.maps):
            low, high = max(begin - at, 0), min(end - at, len(tokens))
            if low < high:
                ids = tokens[low:high].astype(np.int64)
                if int(ids.max()) >= self.manifest.vocab:
                    name = self.folder / self.manifest.shards[number].file
                    raise InputError(name, f"token {int(ids.max())} is not below {self.manifest.vocab}", CURE)
                found.append(ids)
            at += len(tokens)
        return np.concatenate(found) if found else np.zeros(0, np.int64)


def open_shards(folder: Path | str, *, hashes: bool = False) -> Shards:
    """Open a folder that ``lamoid prepare`` wrote; sizes are always checked, the contents with ``hashes=True``.

    Raise InputError naming the file that is missing, cut short or damaged.
    """
    folder = Path(folder)
    manifest = read_corpus(folder)
    tokens = [_map(folder, s.file, f"<u{manifest.width}", s.tokens, s.sha256 * hashes) for s in manifest.shards]
    starts = _map(folder, BOUNDARIES, "<i8", manifest.documents, manifest.boundaries * hashes)
    steps = np.diff(starts)
    if starts[0] != 0 or starts[-1] >= manifest.tokens or (len(steps) and steps.min() < 0):
        raise InputError(folder / BOUNDARIES, "does not give the starts of documents in order", CURE)
    return Shards(folder, manifest, tuple(tokens), starts, 0, manifest.tokens)


def _every_window(tokens: NDArray[np.unsignedinteger], length: int) -> NDArray[np.unsignedinteger]:
    """Give a view of the windows that begin at each token, (N - length + 1, length): they lie over one another."""
    shape, step = (len(tokens) - length + 1, length), tokens.itemsize
    return np.ndarray(shape, tokens.dtype, tokens, strides=(step, step))


def _map(folder: Path, name: str, kind: str, count: int, sha256: str) -> NDArray:
    path = folder / name
    if not is_there(folder, name):
        raise InputError(path, "is missing", CURE)
    expected = count * np.dtype(kind).itemsize
    with open_source(contained(folder, name)) as (file, size):
        if size != expected:
            raise InputError(path, f"has {size} bytes, not the {expected} of its manifest", CURE)
        if sha256 and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise InputError(path, "does not have the hash of its manifest: it is damaged", CURE)
        return np.memmap(file, dtype=kind, mode="r", shape=(count,))
