"""Learns a tokenizer from text files and saves it as a folder that transformers reads too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from lamoid.data.sources import read_documents
from lamoid.recipes.progress import Progress
from lamoid.text.training import train_tokenizer
from lamoid.weights.durable import durable_folder

PART = 2**16  # characters of a document held at once


class LearntTokenizer(msgspec.Struct, frozen=True):
    """What was learnt from what; ``bytes_per_token`` is measured on the first part of the text."""

    out: str
    kind: str
    vocab: int
    documents: int
    text_bytes: int
    bytes_per_token: float
    fingerprint: str

    def lines(self) -> list[str]:
        """Write what a person reads."""
        return [
            f"{self.out}: {self.vocab} tokens ({self.kind}) learnt from {self.documents} documents, "
            f"{self.text_bytes} bytes; {self.bytes_per_token:.2f} bytes a token on the first of them",
        ]


def tokenizer(
    sources: Annotated[list[str], "text files, JSONL files, folders or globs to learn from"],
    *,
    out: Annotated[Path, "folder to write the tokenizer to"],
    kind: Annotated[Literal["bytes", "characters"], "byte pairs, or one token a character"] = "bytes",
    vocab: Annotated[int, "number of tokens at most"] = 4096,
    closed: Annotated[bool, "characters only: refuse characters that were not seen, instead of spelling bytes"] = False,
    mask: Annotated[
        bool, "with the control tokens of BERT, to pre-train encoders: [PAD], [CLS], [SEP], [MASK]"
    ] = False,
    sentinels: Annotated[int, "with so many of <extra_id_0> and on, to pre-train as T5 does"] = 0,
    separator: Annotated[
        str | None, "text between two documents of a file; in a shell, $'\\n\\n' is a blank line"
    ] = None,
    field: Annotated[str, "field of a JSONL line that holds the text"] = "text",
    overwrite: Annotated[bool, "replace the folder if it exists"] = False,
    progress: Progress | None = None,
) -> LearntTokenizer:
    """Learn a tokenizer from text; any text comes back from its ids unchanged."""
    counts = {"documents": 0, "text_bytes": 0}
    sample: list[str] = []

    def texts() -> Iterator[str]:
        for document in read_documents(sources, separator=separator, field=field, part=PART):
            size = len(document.text.encode())
            counts["documents"] += document.ends
            counts["text_bytes"] += size
            if not sample:
                sample.append(document.text)
            if progress is not None:
                progress.advance(size)
            yield document.text

    with durable_folder(out, overwrite=overwrite) as draft:
        if progress is not None:
            progress.start("reading text", None, "B")
        learnt = train_tokenizer(texts(), kind=kind, vocab=vocab, closed=closed, mask=mask, sentinels=sentinels)
        if progress is not None:
            progress.finish()
        for name, data in learnt.files().items():
            draft.write(name, data)
    return LearntTokenizer(
        out=str(out),
        kind=kind,
        vocab=learnt.vocab,
        documents=counts["documents"],
        text_bytes=counts["text_bytes"],
        bytes_per_token=len(sample[0].encode()) / len(learnt.encode(sample[0])),
        fingerprint=learnt.fingerprint(),
    )
