"""How much a text repeats itself: the measures of MassiveText (Rae et al. 2021, arXiv:2112.11446, table A1)."""

import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lamoid.text.clean_rules import RepetitionRule

_Numbers: TypeAlias = NDArray[np.int64]
_PARAGRAPHS = re.compile(r"\n\s*\n")


def why_repetitive(text: str, words: Sequence[str], rule: RepetitionRule) -> str:
    """Say which measure of the text, whose words are ``words``, is above its limit; nothing where none is."""
    for what, pieces, most, most_characters in (
        ("lines", _stripped(text.split("\n")), rule.lines, rule.line_characters),
        ("paragraphs", _stripped(_PARAGRAPHS.split(text)), rule.paragraphs, rule.paragraph_characters),
    ):
        share, characters = repeated_share(pieces)
        if share > most:
            return f"{share:.0%} of its {what} are repeated"
        if characters > most_characters:
            return f"{characters:.0%} of its characters are in repeated {what}"
    if len(words) < max(1, rule.least_words):
        return ""
    limits = dict(enumerate((*rule.top, *rule.runs), 2))
    for size, share in run_shares(words):
        if share > limits[size]:
            which = "the commonest run" if size < 5 else "repeated runs"
            return f"{share:.0%} of its characters are in {which} of {size} words"
    return ""


def repeated_share(pieces: Sequence[str]) -> tuple[float, float]:
    """Give the share of pieces that stood before in the list, and that of characters in them."""
    again = len(pieces) - len(set(pieces))
    if not again:
        return 0.0, 0.0
    total = sum(map(len, pieces))
    return again / len(pieces), (total - sum(map(len, set(pieces)))) / total


def run_shares(words: Sequence[str]) -> Iterator[tuple[int, float]]:
    """Give, for runs of 2 to 10 words, the share of the words' characters that repeated runs hold.

    Of 2, 3 and 4 words that is the commonest run, wherever it comes; of 5 to 10 all runs that come more than once. A
    character in several of them counts once.
    """
    known: dict[str, int] = {}
    numbers = np.fromiter((known.setdefault(word, len(known)) for word in words), np.int64, len(words))
    sizes = np.fromiter(map(len, words), np.int64, len(words))
    runs, counts = numbers, np.empty(0, np.int64)
    for size in range(2, 11):
        if len(runs) < 2:
            return
        pairs = runs[:-1] * len(known) + numbers[size - 1 :]
        _, runs, counts = np.unique(pairs, return_inverse=True, return_counts=True)
        if counts.max() < 2:  # then no longer run comes twice either
            return
        held = _commonest(runs, counts, sizes, size) if size < 5 else _repeated(runs, counts, sizes, size)
        yield size, held / int(sizes.sum())


def _commonest(runs: _Numbers, counts: _Numbers, sizes: _Numbers, size: int) -> int:
    """Give the characters of the run that comes most often, of the one that holds most where several do."""
    total = np.concatenate([[0], np.cumsum(sizes)])
    places = np.flatnonzero(counts[runs] == counts.max())
    places = places[np.argsort(runs[places], kind="stable")]
    begins, ends = total[places], total[places + size]
    again = runs[places[1:]] == runs[places[:-1]]
    begins[1:][again] = np.maximum(begins[1:], ends[:-1])[again]  # where it comes once more before it has ended
    return int(np.add.reduceat(ends - begins, np.flatnonzero(np.concatenate([[True], ~again]))).max())


def _repeated(runs: _Numbers, counts: _Numbers, sizes: _Numbers, size: int) -> int:
    """Give the characters that stand in some run which comes more than once."""
    places = np.flatnonzero(counts[runs] > 1)
    covered = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.add.at(covered, places, 1)
    np.add.at(covered, places + size, -1)
    return int(sizes[np.cumsum(covered[:-1]) > 0].sum())


def _stripped(pieces: Sequence[str]) -> list[str]:
    return [piece for piece in map(str.strip, pieces) if piece]
