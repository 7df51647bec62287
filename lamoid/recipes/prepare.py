"""Turns text into token shards: the folder that training reads."""

import time
from pathlib import Path
from typing import Annotated

import msgspec

from lamoid.data.files import find_files
from lamoid.data.prepare import PART
from lamoid.data.prepare import prepare as write_shards
from lamoid.data.sources import read_documents
from lamoid.recipes.progress import Progress
from lamoid.text.tokenizer import Tokenizer
from lamoid.weights.durable import durable_folder


class Prepared(msgspec.Struct, frozen=True):
    """What was written, and how fast."""

    out: str
    documents: int
    tokens: int
    text_bytes: int
    shards: int
    tokenizer: str
    seconds: float

    def lines(self) -> list[str]:
        """Write what a person reads."""
        rate = self.text_bytes / max(1e-9, self.seconds)
        return [
            f"{self.out}: {self.documents} documents, {self.tokens} tokens in {self.shards} shards, from "
            f"{self.text_bytes} bytes of text ({self.text_bytes / self.tokens:.2f} bytes a token)",
            f"{self.seconds:.1f} s, {rate / 1e6:.2f} MB/s, {self.tokens / max(1e-9, self.seconds):.0f} tokens/s",
        ]


def prepare(
    sources: Annotated[list[str], "text files, JSONL files, folders or globs to prepare"],
    *,
    tokenizer: Annotated[Path, "folder or file of the tokenizer, or of a model that has one"],
    out: Annotated[Path, "folder to write the token shards to"],
    separator: Annotated[
        str | None, "text between two documents of a file; in a shell, $'\\n\\n' is a blank line"
    ] = None,
    field: Annotated[str, "field of a JSONL line that holds the text"] = "text",
    shard_tokens: Annotated[int, "tokens in a shard at most"] = 2**26,
    workers: Annotated[int, "batches tokenised at a time; never changes what is written"] = 2,
    overwrite: Annotated[bool, "replace the folder if it exists"] = False,
    progress: Progress | None = None,
) -> Prepared:
    """Turn text into token shards with a manifest, in one pass and with memory that stays flat."""
    begun = time.perf_counter()
    text_tokenizer = Tokenizer.read(tokenizer)
    if progress is not None:
        progress.start("preparing", sum(path.stat().st_size for path, _ in find_files(sources)), "B")
    manifest = write_shards(
        read_documents(sources, separator=separator, field=field, part=PART),
        text_tokenizer,
        Path(out),
        folder=durable_folder,
        shard_tokens=shard_tokens,
        workers=workers,
        overwrite=overwrite,
        advance=None if progress is None else progress.advance,
    )
    if progress is not None:
        progress.finish()
    return Prepared(
        out=str(out),
        documents=manifest.documents,
        tokens=manifest.tokens,
        text_bytes=manifest.text_bytes,
        shards=len(manifest.shards),
        tokenizer=manifest.tokenizer,
        seconds=time.perf_counter() - begun,
    )
