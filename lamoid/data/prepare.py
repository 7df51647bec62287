"""Documents to token shards in one pass, with memory that does not grow with the input."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from lamoid.data.manifest import BOUNDARIES, FORMAT, NAME, Manifest, Shard, shard_name
from lamoid.data.sources import Document
from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer

PART = 2**16  # characters a piece: large enough to keep the library busy, small enough to stay in the cache
BATCH = 2**20  # characters a call of the library


class Draft(Protocol):
    """A folder in the making, as weights/durable.py gives it."""

    def open(self, name: str) -> BinaryIO:
        """Open a new file of this name for writing."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write one whole file."""
        ...


class MakeFolder(Protocol):
    """Makes a folder appear under its name only when everything in it is written."""

    def __call__(self, target: Path, *, overwrite: bool = False) -> AbstractContextManager[Draft]:
        """Give a draft that becomes ``target`` when its block ends without an exception."""
        ...


class Advance(Protocol):
    """Is told the number of bytes of text done since the last call."""

    def __call__(self, n: int = 1, **figures: float | str) -> None:
        """Count ``n`` bytes more; ``figures`` say how it stands."""
        ...


def prepare(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    out: Path,
    *,
    folder: MakeFolder,
    shard_tokens: int = 2**26,
    workers: int = 2,
    overwrite: bool = False,
    advance: Advance | None = None,
) -> Manifest:
    """Write ``documents`` as token shards into the folder ``out``, each as start token, tokens, end token.

    ``workers`` batches are tokenised at a time; their number never changes a byte. Parts of one document (see
    ``read_documents``) are tokenised one by one, so no token stands across a cut. The tokenizer is stored beside.
    Raise InputError, and whatever ``folder`` raises for a disk that fails.
    """
    if shard_tokens < 1 or workers < 1:
        raise InputError("shard_tokens, workers", f"{shard_tokens} and {workers} must be 1 or more", "raise them")
    with folder(out, overwrite=overwrite) as draft, ExitStack() as files:
        writer = _Writer(draft, files, tokenizer, shard_tokens)
        for batch, ids in _tokenised(documents, tokenizer, workers):
            for document, tokens in zip(batch, ids, strict=True):
                writer.add(document, tokens)
            if advance is not None:
                advance(sum(_size(d.text) for d in batch), tokens=writer.tokens)
        manifest = writer.finish()
        draft.write(NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        for name, data in tokenizer.files().items():
            draft.write(name, data)
    return manifest


def part_encoder(tokenizer: Tokenizer) -> Callable[[list[Document], list[bool]], list[list[int]]]:
    """Give a function that encodes documents, and parts that continue one without what opens a text.

    A sentencepiece-like tokenizer puts a space before every text. Before a part it must not, so such a part is encoded
    behind a line's end, whose ids are then taken off again.
    """
    lead = "\n"
    try:
        lead_ids, alone, behind = tokenizer.encode_many([lead, "a", lead + "a"])
    except InputError:  # a closed vocabulary without these characters adds nothing before a text
        lead_ids, alone, behind = [], [], []
    if behind == [*lead_ids, *alone]:
        return lambda batch, continues: tokenizer.encode_many([d.text for d in batch])

    def encode(batch: list[Document], continues: list[bool]) -> list[list[int]]:
        texts = [lead * c + d.text for d, c in zip(batch, continues, strict=True)]
        found = tokenizer.encode_many(texts)
        for k, (document, is_part) in enumerate(zip(batch, continues, strict=True)):
            if is_part and found[k][: len(lead_ids)] == lead_ids:
                found[k] = found[k][len(lead_ids) :]
            elif is_part:
                found[k] = tokenizer.encode(document.text)
        return found

    return encode


def _tokenised(
    documents: Iterable[Document], tokenizer: Tokenizer, workers: int
) -> Iterator[tuple[list[Document], list[NDArray[np.uint32]]]]:
    """Give batches of documents with their ids, in order, while the next ones are being tokenised."""
    encode = part_encoder(tokenizer)

    def work(batch: list[Document], continues: list[bool]) -> list[NDArray[np.uint32]]:
        return [np.array(ids, dtype=np.uint32) for ids in encode(batch, continues)]

    waiting: deque[tuple[list[Document], Future[list[NDArray[np.uint32]]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for batch, continues in _batches(documents):
                waiting.append((batch, pool.submit(work, batch, continues)))
                if len(waiting) > workers:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _batches(documents: Iterable[Document]) -> Iterator[tuple[list[Document], list[bool]]]:
    batch: list[Document] = []
    continues: list[bool] = []
    size, is_open = 0, False
    for document in documents:
        batch.append(document)
        continues.append(is_open)
        size, is_open = size + len(document.text) + 64, not document.ends
        if size >= BATCH:
            yield batch, continues
            batch, continues, size = [], [], 0
    if batch:
        yield batch, continues


class _Writer:
    """Appends tokens to shard after shard, and the start of each document to the file of boundaries."""

    def __init__(self, draft: Draft, files: ExitStack, tokenizer: Tokenizer, shard_tokens: int) -> None:
        self._draft, self._files, self._tokenizer, self._limit = draft, files, tokenizer, shard_tokens
        self._width = 2 if tokenizer.vocab <= 2**16 else 4
        self._shards: list[Shard] = []
        self._shard_files = files.enter_context(ExitStack())
        self._shard: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._in_shard = 0
        self._boundaries = files.enter_context(draft.open(BOUNDARIES))
        self._boundary_hash = hashlib.sha256()
        self._is_open = self._is_counted = False  # within a document; within one whose start is written
        self.tokens = self.documents = self.text_bytes = 0

    def add(self, document: Document, ids: NDArray[np.uint32]) -> None:
        """Add a document or the next part of one."""
        start, end = self._tokenizer.start, self._tokenizer.end
        before = [] if self._is_open or start is None else [start]
        after = [] if not document.ends or end is None else [end]
        tokens = np.concatenate([np.array(before, np.uint32), ids, np.array(after, np.uint32)])
        if not self._is_counted and len(tokens):
            data = np.array([self.tokens], dtype="<i8").tobytes()
            self._boundaries.write(data)
            self._boundary_hash.update(data)
            self.documents += 1
            self._is_counted = True
        self._is_open = not document.ends
        self._is_counted = self._is_counted and self._is_open
        self.text_bytes += _size(document.text)
        self._append(tokens)

    def finish(self) -> Manifest:
        """Close the files and give their description."""
        self._close_shard()
        self._boundaries.close()
        if self.tokens == 0:
            raise InputError("documents", "there is none with a token in it", "name files with text in them")
        return Manifest(
            format=FORMAT,
            documents=self.documents,
            tokens=self.tokens,
            text_bytes=self.text_bytes,
            vocab=self._tokenizer.vocab,
            width=self._width,
            start=self._tokenizer.start,
            end=self._tokenizer.end,
            tokenizer=self._tokenizer.fingerprint(),
            boundaries=self._boundary_hash.hexdigest(),
            shards=tuple(self._shards),
        )

    def _append(self, tokens: NDArray[np.uint32]) -> None:
        while len(tokens):
            if self._shard is None:
                self._shard = self._shard_files.enter_context(self._draft.open(shard_name(len(self._shards))))
            head, tokens = np.split(tokens, [self._limit - self._in_shard])
            data = head.astype(f"<u{self._width}").tobytes()
            self._shard.write(data)
            self._hash.update(data)
            self._in_shard += len(head)
            self.tokens += len(head)
            if self._in_shard == self._limit:
                self._close_shard()

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shard_files.close()
            self._shards.append(Shard(shard_name(len(self._shards)), self._in_shard, self._hash.hexdigest()))
            self._shard, self._hash, self._in_shard = None, hashlib.sha256(), 0


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
