"""Sentencepiece's byte pairs as llama.cpp reads them: it merges the two neighbours whose piece has the best score.

A tokenizer.json has merges instead. They come to the same where every way to put a piece together is a merge, and the
merges of one piece stand together; then a piece's score is minus its place. Anything else is refused.
"""

from dataclasses import dataclass
from typing import Any

from lamoid.errors import InputError

SPACE = "\u2581"
OTHER = "Take a tokenizer made by sentencepiece, or a byte-level one (`lamoid tokenizer`)"


@dataclass(frozen=True)
class SentencePieceParts:
    """The scores of pieces that are merged, whether a space is put before a text, and tokens written otherwise."""

    scores: dict[str, float]
    adds_space: bool
    written: dict[str, str]
    remarks: tuple[str, ...]


def sentencepiece_parts(document: dict[str, Any], name: str) -> SentencePieceParts:
    """Give what llama.cpp needs besides the tokens. Raise InputError where it would read text otherwise."""
    model, vocabulary = document["model"], document["model"]["vocab"]
    if not model.get("byte_fallback") or any(f"<0x{byte:02X}>" not in vocabulary for byte in range(256)):
        raise InputError(f"{name}: model", "it lacks tokens for single bytes, which llama.cpp falls back on", OTHER)
    if model.get("ignore_merges"):
        raise InputError(f"{name}: model.ignore_merges", "it takes words whole, which llama.cpp does not", OTHER)
    added = {token["content"] for token in document.get("added_tokens") or ()}
    pieces = {piece for piece in vocabulary if piece not in added and not _is_byte(piece)}
    adds_space, marks, remarks = _spaces(document, pieces, name)
    written: dict[str, str] = {}
    if not marks and " " in pieces:
        if SPACE in pieces:
            problem = f"it has both the space and {SPACE!r}, which are one to llama.cpp"
            raise InputError(f"{name}: model.vocab", problem, OTHER)
        written = {piece: piece.replace(" ", SPACE) for piece in pieces if " " in piece}
    controls = [token["content"] for token in document.get("added_tokens") or () if token.get("special")]
    formed = [text for text in controls if any(text[:cut] in pieces and text[cut:] in pieces for cut in _cuts(text))]
    if formed:
        remarks += (f"llama.cpp reads {formed[0]!r} in any text as the control token: its pieces make it up",)
    return SentencePieceParts(_scores(model, pieces, name), adds_space, written, remarks)


def _cuts(piece: str) -> range:
    return range(1, len(piece))


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _spaces(document: dict[str, Any], pieces: set[str], name: str) -> tuple[bool, bool, tuple[str, ...]]:
    """Tell whether a space is put before a text, whether spaces become marks, and what llama.cpp does otherwise."""
    normalizer, cutter = document.get("normalizer"), document.get("pre_tokenizer")
    parts = (normalizer or {}).get("normalizers", [normalizer]) if normalizer else []
    prepends = {"type": "Prepend", "prepend": SPACE}
    replaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    if any(part not in (prepends, replaces) for part in parts) or parts not in (
        [],
        [replaces],
        [prepends, replaces],
        [replaces, prepends],
    ):
        raise InputError(f"{name}: normalizer", "it does more to a text than to mark its spaces", OTHER)
    adds, marks, remarks = prepends in parts, replaces in parts, ()
    if cutter is not None:
        if cutter.get("type") != "Metaspace" or cutter.get("replacement") != SPACE:
            kind = str(cutter.get("type"))[:40]
            raise InputError(f"{name}: pre_tokenizer", f"{kind} cuts words, which llama.cpp does not here", OTHER)
        if cutter.get("split", True) and any(SPACE in piece[1:] for piece in pieces):
            problem = "it cuts words at spaces, and its vocabulary has pieces that go on behind one"
            raise InputError(f"{name}: pre_tokenizer.split", problem, OTHER)
        marks = True
        if cutter.get("prepend_scheme", "always") != "never" and not adds:
            adds = True
            remarks = ("llama.cpp puts a space before a text that begins with one too, the tokenizer does not",)
    if not marks:
        remarks = (f"llama.cpp reads the character {SPACE!r} as a space, the tokenizer does not",)
    return adds, marks, remarks


def _scores(model: dict[str, Any], pieces: set[str], name: str) -> dict[str, float]:
    """Give each merged piece's score: minus the place of its merges, of which every possible one must be there."""
    found = [merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges", ())]
    merges = [(left, right) for left, right in found]
    listed, where = set(merges), f"{name}: model.merges"
    for piece in pieces:
        for cut in _cuts(piece):
            pair = (piece[:cut], piece[cut:])
            if pair not in listed and pair[0] in pieces and pair[1] in pieces:
                problem = f"{pair[0][:40]!r} and {pair[1][:40]!r} are pieces, and never merged to one that is too"
                raise InputError(where, problem, OTHER)
    last = {left + right: place for place, (left, right) in enumerate(merges)}
    scores: dict[str, float] = {}
    group: list[tuple[str, str]] = []
    rank, end = 0, -1
    for place, (left, right) in enumerate(merges):
        if place > end:
            rank, group = rank + bool(group), []
        group.append((left, right))
        end = max(end, last[left + right])
        scores[left + right] = -float(rank)
        if place == end and not _is_tie(group):
            problem = f"those of {(left + right)[:40]!r} do not stand together, as sentencepiece's do"
            raise InputError(where, problem, OTHER)
    return scores


def _is_tie(group: list[tuple[str, str]]) -> bool:
    """Tell whether merges that stand together are of one piece, or of pieces of one score, sorted by the left part."""
    lengths = [len(left) for left, _ in group]
    one = len({left + right for left, right in group}) == 1
    return one or lengths == sorted(lengths) or lengths == sorted(lengths, reverse=True)
