"""One document cleaned by all rules that look at nothing else, and what the rules against duplicates need of it."""

import hashlib
import unicodedata
from collections.abc import Callable, Iterator

import msgspec

from lamoid.errors import InputError
from lamoid.text.clean_markup import has_wiki_markup, strip_markup
from lamoid.text.clean_rules import CleanSpec
from lamoid.text.clean_unicode import lost_share, repair_unicode, require_ftfy, strip_controls
from lamoid.text.clean_words import remove_words, require_jieba, segment, words_of
from lamoid.text.language import UNKNOWN, detect_language, function_words, known_languages
from lamoid.text.minhash import signature
from lamoid.text.repetition import why_repetitive

SAMPLE = 80  # characters shown of a text


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What one rule changed: how many characters fewer, and the place of the first change before and after."""

    rule: str
    fewer: int
    before: str
    after: str


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """A cleaned document: its text, or the rule that dropped it, and why."""

    text: str
    dropped_by: str
    reason: str
    changes: tuple[Change, ...]
    digest: bytes
    signature: bytes


def check_rules(spec: CleanSpec) -> None:
    """Raise ``InputError`` for a language that is not known, and for a rule that needs what is not installed."""
    for language in spec.language.keep:
        if language not in (*known_languages(), UNKNOWN):
            problem = f"{language[:20]!r} cannot be told"
            raise InputError("language.keep", problem, f"known are {' '.join(known_languages())} and {UNKNOWN}")
    for language in spec.stop_words.languages:
        if not function_words(language):
            raise InputError("stop_words.languages", f"there is no list for {language[:20]!r}", "name stop_words.words")
    if spec.unicode.on:
        require_ftfy()
    if spec.segment.on:
        require_jieba()


def clean_document(text: str, spec: CleanSpec) -> Outcome:
    """Apply every rule of ``spec`` that is on but those against duplicates, in their order.

    The digest and the signature, by which duplicates are found, are those of the text before the rules for word models.
    """
    changes: list[Change] = []
    for rule, change in _changing(spec):
        text, dropped = _apply(rule, change, text, changes)
        if dropped:
            return _drop(text, rule, "nothing is left", changes)
    if spec.unicode.on and (share := lost_share(text)) > spec.unicode.most_lost:
        return _drop(text, "unicode", f"{share:.0%} of its characters are lost", changes)
    words = words_of(text)
    for rule, judge in _dropping(spec):
        if reason := judge(text, words):
            return _drop(text, rule, reason, changes)
    digest = _digest(text) if spec.exact.on else b""
    marks = b""
    if spec.near.on and words:
        found = signature([w.lower() for w in words], spec.near.hashes, spec.near.words, spec.near.characters)
        marks = found.astype("<u4").tobytes()
    for rule, change in _for_words(spec):
        text, dropped = _apply(rule, change, text, changes)
        if dropped:
            return _drop(text, rule, "nothing is left", changes)
    return Outcome(text, "", "", tuple(changes), digest, marks)


def excerpt(text: str) -> str:
    """Give the beginning of a text on one line."""
    return " ".join(text[: 4 * SAMPLE].split())[:SAMPLE]


def _changing(spec: CleanSpec) -> Iterator[tuple[str, Callable[[str], str]]]:
    if spec.unicode.on:
        yield "unicode", repair_unicode
    if spec.controls.on:
        yield "controls", strip_controls
    if spec.markup.on:
        yield "markup", lambda text: strip_markup(text, spec.markup.wiki and has_wiki_markup(text))


def _dropping(spec: CleanSpec) -> Iterator[tuple[str, Callable[[str, list[str]], str]]]:
    """Give the rules that drop; each says why, or nothing."""
    if spec.length.on:
        yield "length", lambda text, words: _wrong_length(text, words, spec)
    if spec.language.on and spec.language.keep:
        yield "language", lambda text, _: _wrong_language(text, spec)
    if spec.repetition.on:
        yield "repetition", lambda text, words: why_repetitive(text, words, spec.repetition)


def _for_words(spec: CleanSpec) -> Iterator[tuple[str, Callable[[str], str]]]:
    if spec.lowercase.on:
        yield "lowercase", str.lower
    if spec.segment.on:
        yield "segment", lambda text: segment(text, spec.segment.punctuation)
    if spec.stop_words.on:
        unwanted = set(map(str.lower, spec.stop_words.words)).union(*map(function_words, spec.stop_words.languages))
        yield "stop_words", lambda text: remove_words(text, unwanted)


def _apply(rule: str, change: Callable[[str], str], text: str, changes: list[Change]) -> tuple[str, bool]:
    """Apply a rule and note what it changed; tell whether nothing but white space is left."""
    after = change(text)
    if after != text:
        place = max(0, _first_difference(text, after) - SAMPLE // 2)
        changes.append(Change(rule, len(text) - len(after), excerpt(text[place:]), excerpt(after[place:])))
    return after, not after or after.isspace()


def _first_difference(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _drop(text: str, rule: str, reason: str, changes: list[Change]) -> Outcome:
    return Outcome(text, rule, reason, tuple(changes), b"", b"")


def _digest(text: str) -> bytes:
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(plain.encode(errors="replace")).digest()[:16]


def _wrong_length(text: str, words: list[str], spec: CleanSpec) -> str:
    limits = spec.length
    for count, unit, least, most in (
        (len(text.strip()), "characters", limits.least_characters, limits.most_characters),
        (len(words), "words", limits.least_words, limits.most_words),
    ):
        if count < least or 0 < most < count:
            return f"{count} {unit}"
    return ""


def _wrong_language(text: str, spec: CleanSpec) -> str:
    language, certainty = detect_language(text)
    if certainty < spec.language.least:
        language = UNKNOWN
    return "" if language in spec.language.keep else f"language {language}"
