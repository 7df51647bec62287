"""Named pieces of sentences, and how many were found: precision, recall and F1 over whole pieces."""

from collections.abc import Sequence
from typing import NamedTuple


class TagScore(NamedTuple):
    """Pieces that were named rightly over those named, over those to be named, and the harmonic mean of both."""

    precision: float
    recall: float
    f1: float


def pieces(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Give the pieces (name, first, last + 1) of a sentence by its BIO or BIOES tags, as conlleval reads them.

    A piece begins with B, with S, and with an I or E that has no piece of its name before it; O and other words are
    outside.
    """
    found: list[tuple[str, int, int]] = []
    name, first = "", -1
    for place, tag in enumerate([*tags, "O"]):
        mark, _, named = tag.partition("-")
        is_inside = mark in ("B", "I", "E", "S", "L", "U") and bool(named)
        goes_on = is_inside and mark in ("I", "E", "L") and first >= 0 and named == name
        if first >= 0 and not goes_on:
            found.append((name, first, place))
            first = -1
        if is_inside and not goes_on:
            name, first = named, place
        if mark in ("E", "S", "L", "U") and first >= 0:
            found.append((name, first, place + 1))
            first = -1
    return found


def tag_score(wanted: Sequence[Sequence[str]], given: Sequence[Sequence[str]]) -> TagScore:
    """Compare sentences' tags, word for word as many; a share of nothing is 0."""
    right = due = said = 0
    for ours, theirs in zip(given, wanted, strict=True):
        if len(ours) != len(theirs):
            raise ValueError(f"{len(ours)} tags for {len(theirs)} words")
        named, wished = set(pieces(ours)), set(pieces(theirs))
        right, due, said = right + len(named & wished), due + len(wished), said + len(named)
    precision, recall = right / said if said else 0.0, right / due if due else 0.0
    return TagScore(precision, recall, 2 * precision * recall / (precision + recall) if right else 0.0)
