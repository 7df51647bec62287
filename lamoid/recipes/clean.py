"""Cleans text: repairs, filters and drops duplicates, into one JSONL file, and says what each rule did."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from lamoid.data.clean import LONGEST, Tally
from lamoid.data.clean import clean as cleaned
from lamoid.data.cleaning_workers import all_cores
from lamoid.data.sources import files_size, read_documents, source_names
from lamoid.errors import InputError
from lamoid.recipes.clean_stage import CleanReport, damage_of, read_rules, report_of
from lamoid.recipes.progress import Progress
from lamoid.weights.durable_stream import durable_stream

_FORMS = (".jsonl", ".jsonl.gz")


class Cleaned(msgspec.Struct, frozen=True):
    """What was written from what, and what every rule did."""

    out: str
    sources: tuple[str, ...]
    report: CleanReport
    seconds: float

    def lines(self) -> list[str]:
        """Write what a person reads."""
        report = self.report
        rate = report.characters / max(1e-9, self.seconds) / 1e6
        held = f"{report.memory / max(1, report.kept):.0f} bytes a document held to find duplicates"
        return [f"{self.out}: {self.seconds:.1f} s, {rate:.2f} million characters/s, {held}", *report.lines()]


def clean(
    sources: Annotated[list[str], "text files, JSONL, tables, folders, globs or hf:NAME to clean"],
    *,
    out: Annotated[Path, "file to write, .jsonl or .jsonl.gz"],
    rules: Annotated[Path | None, "TOML file with a table [clean]; default every rule for text as it is"] = None,
    set: Annotated[Sequence[str], "override a key of the rules: rule.key=value; may be given often"] = (),
    separator: Annotated[
        str | None, "text between two documents of a file; in a shell, $'\\n\\n' is a blank line"
    ] = None,
    field: Annotated[str, "field or column that holds the text"] = "text",
    encoding_errors: Annotated[
        str | None, "bytes that are no UTF-8 text, or NUL: refuse (default), replace by U+FFFD, or skip"
    ] = None,
    workers: Annotated[int, "processes at a time, 0: all cores; never changes what is written"] = 0,
    overwrite: Annotated[bool, "replace the file if it exists"] = False,
    progress: Progress | None = None,
) -> Cleaned:
    """Clean text and drop duplicates, in one pass; the same text and rules give the same file."""
    if not Path(out).name.endswith(_FORMS):
        raise InputError(out, f"ends with {Path(out).suffix[:20]!r}", f"give a name with {' or '.join(_FORMS)}")
    begun = time.perf_counter()
    spec = read_rules(rules, [*set, *([] if encoding_errors is None else [f"encoding.errors={encoding_errors!r}"])])
    tally, damage = Tally.of(spec), damage_of(spec)
    names = source_names(sources)
    if progress is not None:
        progress.start("cleaning", files_size(sources), "B")
    documents = read_documents(sources, separator=separator, field=field, part=LONGEST, damage=damage)
    advance = None if progress is None else progress.advance
    with durable_stream(out, overwrite=overwrite) as file:
        for document in cleaned(documents, spec, tally, workers=workers or all_cores(), advance=advance):
            file.write(msgspec.json.encode({"text": document.text}) + b"\n")
        if not tally.kept:
            raise InputError(
                "rules", f"drop all {tally.documents} documents", "\n".join(report_of(tally, spec, damage).lines())
            )
    if progress is not None:
        progress.finish()
    return Cleaned(str(out), names, report_of(tally, spec, damage), time.perf_counter() - begun)
