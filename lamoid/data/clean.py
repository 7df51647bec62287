"""A stream of documents cleaned: by rules on each, on all cores, then duplicates dropped in the stream's order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lamoid.data.cleaning_workers import clean_batches
from lamoid.data.near_duplicates import KeptSignatures
from lamoid.data.prepare import Advance
from lamoid.data.sources import Document
from lamoid.errors import InputError
from lamoid.text.clean_document import Outcome, check_rules, excerpt
from lamoid.text.clean_rules import CleanSpec

LONGEST = 2**24  # characters of a document cleaned as a whole: its words take up to 100 bytes a character
SAMPLES = 3
_BATCH = 2**18  # characters handed to a process at once
_BATCH_TEXTS = 256


@dataclass
class RuleTally:
    """What one rule did: how many documents it changed and dropped, and the first of each."""

    changed: int = 0
    dropped: int = 0
    characters: int = 0  # removed from documents that it changed, and of those it dropped
    changes: list[tuple[str, str]] = field(default_factory=list)  # place of the change before, after
    drops: list[tuple[str, str]] = field(default_factory=list)  # beginning of the text, reason


@dataclass
class Tally:
    """What came in, what was kept, and what each rule did, in the order of the rules."""

    rules: dict[str, RuleTally]
    documents: int = 0
    characters: int = 0
    kept: int = 0
    kept_characters: int = 0
    memory: int = 0  # bytes held to find duplicates

    @classmethod
    def of(cls, spec: CleanSpec) -> "Tally":
        """Give an empty tally of the rules that are on."""
        return cls({name: RuleTally() for name in spec.__struct_fields__ if getattr(spec, name).on})


def clean(
    documents: Iterable[Document],
    spec: CleanSpec,
    tally: Tally,
    *,
    workers: int = 1,
    advance: Advance | None = None,
) -> Iterator[Document]:
    """Give the documents that are kept, cleaned, in their order; ``tally`` counts what is done.

    Of equal and of nearly equal documents the first is kept. ``workers`` never changes what is given. Memory grows by
    about 100 bytes a document kept for equal ones, and by what ``KeptSignatures`` says for nearly equal ones. Raise
    ``InputError`` for rules that cannot be applied and for a document that comes in parts (more than ``LONGEST``).
    """
    check_rules(spec)
    if workers < 1:
        raise InputError("workers", f"is {workers}, must be 1 or more", "leave it out to use all cores")
    names: list[str] = []
    seen: dict[bytes, None] = {}
    kept = KeptSignatures(spec.near.hashes, spec.near.share)
    for batch, outcomes in clean_batches(_batches(documents, names), spec, workers):
        size = 0
        for text, outcome in zip(batch, outcomes, strict=True):
            name = names.pop(0)
            size += len(text) if text.isascii() else len(text.encode(errors="replace"))
            dropped_by, reason = _find_before(outcome, seen, kept)
            _count(tally, text, outcome, dropped_by, reason)
            if not dropped_by:
                yield Document(name, outcome.text)
        tally.memory = len(seen) * _DIGEST_BYTES + kept.size()
        if advance is not None:
            advance(size, kept=tally.kept)


_DIGEST_BYTES = 100  # a digest of 16 bytes as a key


def _batches(documents: Iterable[Document], names: list[str]) -> Iterator[list[str]]:
    """Give the texts in batches and note the names of the documents."""
    batch: list[str] = []
    size = 0
    for document in documents:
        if not document.ends:
            problem = f"is a document of more than {LONGEST} characters, too long to be cleaned as one"
            raise InputError(document.name, problem, "say what separates its documents (separator)")
        batch.append(document.text)
        names.append(document.name)
        size += len(document.text)
        if size >= _BATCH or len(batch) >= _BATCH_TEXTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _find_before(outcome: Outcome, seen: dict[bytes, None], kept: KeptSignatures) -> tuple[str, str]:
    """Give the rule that drops the document and why, the empty text where none does."""
    if outcome.dropped_by:
        return outcome.dropped_by, outcome.reason
    if outcome.digest and outcome.digest in seen:
        return "exact", "an earlier document is equal"
    if outcome.signature and kept.find_or_add(outcome.signature) is not None:
        return "near", "an earlier document is nearly equal"
    if outcome.digest:
        seen[outcome.digest] = None
    return "", ""


def _count(tally: Tally, text: str, outcome: Outcome, dropped_by: str, reason: str) -> None:
    tally.documents += 1
    tally.characters += len(text)
    for change in outcome.changes:
        rule = tally.rules[change.rule]
        rule.changed += 1
        rule.characters += change.fewer
        if len(rule.changes) < SAMPLES:
            rule.changes.append((change.before, change.after))
    if dropped_by:
        rule = tally.rules[dropped_by]
        rule.dropped += 1
        rule.characters += len(outcome.text)
        if len(rule.drops) < SAMPLES:
            rule.drops.append((excerpt(outcome.text or text), reason))
    else:
        tally.kept += 1
        tally.kept_characters += len(outcome.text)
