"""Turns text into token shards: the folder that training reads."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from lamoid.data.clean import LONGEST, Tally
from lamoid.data.clean import clean as cleaned
from lamoid.data.cleaning_workers import all_cores
from lamoid.data.prepare import PART
from lamoid.data.prepare import prepare as write_shards
from lamoid.data.sources import cut_documents, files_size, read_documents, source_names
from lamoid.recipes.clean_stage import CleanReport, damage_of, read_rules, report_of
from lamoid.recipes.progress import Progress
from lamoid.text.tokenizer import Tokenizer
from lamoid.weights.durable import durable_folder


class Prepared(msgspec.Struct, frozen=True):
    """What was written, and how fast; ``cleaning`` says what was dropped before, where that was asked for."""

    out: str
    documents: int
    tokens: int
    text_bytes: int
    shards: int
    tokenizer: str
    seconds: float
    sources: tuple[str, ...] = ()
    cleaning: CleanReport | None = None

    def lines(self) -> list[str]:
        """Write what a person reads."""
        rate = self.text_bytes / max(1e-9, self.seconds)
        return [
            f"{self.out}: {self.documents} documents, {self.tokens} tokens in {self.shards} shards, from "
            f"{self.text_bytes} bytes of text ({self.text_bytes / self.tokens:.2f} bytes a token)",
            f"{self.seconds:.1f} s, {rate / 1e6:.2f} MB/s, {self.tokens / max(1e-9, self.seconds):.0f} tokens/s",
            *(self.cleaning.lines() if self.cleaning else ()),
        ]


def prepare(
    sources: Annotated[list[str], "text files, JSONL, tables, folders, globs or hf:NAME to prepare"],
    *,
    tokenizer: Annotated[Path, "folder or file of the tokenizer, or of a model that has one"],
    out: Annotated[Path, "folder to write the token shards to"],
    separator: Annotated[
        str | None, "text between two documents of a file; in a shell, $'\\n\\n' is a blank line"
    ] = None,
    field: Annotated[str, "field or column that holds the text"] = "text",
    shard_tokens: Annotated[int, "tokens in a shard at most"] = 2**26,
    workers: Annotated[int, "batches tokenised at a time; never changes what is written"] = 2,
    clean: Annotated[bool, "clean the text and drop duplicates first, on all cores"] = False,
    rules: Annotated[Path | None, "TOML file with a table [clean] to clean by"] = None,
    set: Annotated[Sequence[str], "clean, and override a key of the rules: rule.key=value; may be given often"] = (),
    overwrite: Annotated[bool, "replace the folder if it exists"] = False,
    progress: Progress | None = None,
) -> Prepared:
    """Turn text into token shards with a manifest, in one pass and with memory that stays flat."""
    begun = time.perf_counter()
    text_tokenizer = Tokenizer.read(tokenizer)
    names = source_names(sources)
    if progress is not None:
        progress.start("preparing", files_size(sources), "B")
    spec = read_rules(rules, set) if clean or rules is not None or set else None
    damage = None if spec is None else damage_of(spec)
    part = PART if spec is None else LONGEST
    documents = read_documents(sources, separator=separator, field=field, part=part, damage=damage)
    tally = None if spec is None else Tally.of(spec)
    if spec is not None and tally is not None:
        documents = cut_documents(cleaned(documents, spec, tally, workers=all_cores()), PART)
    manifest = write_shards(
        documents,
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
        sources=names,
        cleaning=None if spec is None or tally is None else report_of(tally, spec, damage),
    )
