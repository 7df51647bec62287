"""What a sentencepiece .model file says, read from its protocol buffer without the sentencepiece library.

The library is not used because it aborts the process or reads out of bounds on files made to harm it, and because it
tells neither the normalization table nor the kind of model. The wire format is five rules:
https://protobuf.dev/programming-guides/encoding/; the fields are those of sentencepiece_model.proto.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lamoid.errors import InputError
from lamoid.text.checking import MOST_PIECE_BYTES, MOST_PIECES

CURE = "fetch the .model file again"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
KINDS = {1: "unigram", 2: "BPE", 3: "word", 4: "character"}


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its id is its place in the list."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """The parts of a sentencepiece model that decide how text becomes ids."""

    pieces: tuple[Piece, ...]
    training: dict[str, Any]
    normalizer: dict[str, Any]
    denormalizer: dict[str, Any]

    def control(self, role: str) -> str | None:
        """Give the control piece that plays ``role`` (``bos``, ``eos``, ``pad``), None where the model has none."""
        name = self.training[f"{role}_piece"]
        return name if any(p.text == name and p.kind == CONTROL for p in self.pieces) else None

    @property
    def unknown(self) -> int:
        """Give the id of the one unknown piece."""
        return next(number for number, piece in enumerate(self.pieces) if piece.kind == UNKNOWN)


def parse_model(data: bytes, name: object) -> SentencePieceModel:
    """Parse and check a sentencepiece model. Raise InputError naming the file and the piece or field."""
    pieces: list[Piece] = []
    parts = {2: dict(_TRAINING_DEFAULTS), 3: dict(_NORMALIZER_DEFAULTS), 5: dict(_NORMALIZER_DEFAULTS)}
    seen: set[int] = set()
    for field, value in _fields(data, str(name)):
        seen.add(field)
        if field == 1:
            if len(pieces) == MOST_PIECES:
                raise InputError(name, f"more than {MOST_PIECES} pieces", CURE)
            pieces.append(_piece(value, f"{name}: piece {len(pieces)}"))
        elif field in parts:
            table, where = (_TRAINING, "trainer_spec") if field == 2 else (_NORMALIZER, "normalizer_spec")
            parts[field].update(_message(value, table, f"{name}: {where}"))
    for field, part in ((1, "pieces"), (2, "trainer_spec"), (3, "normalizer_spec")):
        if field not in seen:  # the parts stand in this order, so that a file cut between two of them is found
            raise InputError(name, f"is no sentencepiece model, or cut: it has no {part}", CURE)
    _check_pieces(pieces, name)
    return SentencePieceModel(tuple(pieces), parts[2], parts[3], parts[5])


def _piece(value: Any, where: str) -> Piece:
    found = {"text": "", "score": 0.0, "kind": NORMAL} | _message(value, _PIECE, where)
    size = len(found["text"].encode())
    if not 0 < size <= MOST_PIECE_BYTES:
        raise InputError(where, f"its text has {size} bytes, not 1 to {MOST_PIECE_BYTES}", CURE)
    if not math.isfinite(found["score"]):
        raise InputError(where, f"its score is {found['score']}", CURE)
    if not NORMAL <= found["kind"] <= BYTE:
        raise InputError(where, f"its type {found['kind']} is not known (1 to {BYTE})", CURE)
    return Piece(**found)


def _check_pieces(pieces: list[Piece], name: object) -> None:
    seen: dict[str, int] = {}
    for number, piece in enumerate(pieces):
        if piece.text in seen:
            raise InputError(f"{name}: piece {number}", f"{piece.text[:80]!r} is piece {seen[piece.text]} too", CURE)
        seen[piece.text] = number
    unknown = sum(piece.kind == UNKNOWN for piece in pieces)
    if unknown != 1:
        raise InputError(name, f"{len(pieces)} pieces with {unknown} unknown pieces among them, not 1", CURE)


def _message(value: Any, table: dict[int, tuple[str, str]], where: str) -> dict[str, Any]:
    """Give the known fields of an inner message by name; the last of several wins, as protocol buffers have it."""
    found: dict[str, Any] = {}
    if not isinstance(value, bytes):
        raise InputError(where, "is no message", CURE)
    for field, content in _fields(value, where):
        if field not in table:
            continue
        key, kind = table[field]
        found[key] = _typed(content, kind, f"{where}: {key}")
    return found


def _typed(value: Any, kind: str, where: str) -> Any:
    if kind == "text" and isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise InputError(where, f"is not UTF-8 at byte {error.start}", CURE) from None
    if kind == "float" and isinstance(value, float):
        return value
    if kind == "bytes" and isinstance(value, bytes):
        return value
    if kind in ("number", "flag") and isinstance(value, int):
        return bool(value) if kind == "flag" else value
    raise InputError(where, f"is no {kind}", CURE)


def _fields(data: bytes, where: str) -> Iterator[tuple[int, int | float | bytes]]:
    """Give each field's number and value: a whole number, a 32-bit float, or bytes; 64-bit values stay bytes."""
    place = 0
    while place < len(data):
        key, after = _whole_number(data, place, where)
        field, wire = key >> 3, key & 7
        if field == 0:
            raise InputError(where, f"is no sentencepiece model: field 0 at byte {place}", CURE)
        if wire == 0:
            value, after = _whole_number(data, after, where)
            yield field, value
        elif wire in (1, 2, 5):
            size, after = _whole_number(data, after, where) if wire == 2 else ({1: 8, 5: 4}[wire], after)
            if size > len(data) - after:
                problem = f"ends inside field {field} at byte {place} ({size} bytes promised, {len(data) - after} left)"
                raise InputError(where, problem, CURE)
            value = data[after : after + size]
            after += size
            yield field, struct.unpack("<f", value)[0] if wire == 5 else value
        else:
            raise InputError(where, f"is no sentencepiece model: wire type {wire} at byte {place}", CURE)
        place = after


def _whole_number(data: bytes, place: int, where: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise InputError(where, f"ends inside a number at byte {place}", CURE)
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise InputError(where, f"is no sentencepiece model: a number of over 10 bytes before byte {place}", CURE)


_PIECE = {1: ("text", "text"), 2: ("score", "float"), 3: ("kind", "number")}
_TRAINING = {
    3: ("model_type", "number"),
    24: ("treat_whitespace_as_suffix", "flag"),
    35: ("byte_fallback", "flag"),
    46: ("bos_piece", "text"),
    47: ("eos_piece", "text"),
    48: ("pad_piece", "text"),
}
_TRAINING_DEFAULTS: dict[str, Any] = {
    "model_type": UNIGRAM,
    "treat_whitespace_as_suffix": False,
    "byte_fallback": False,
    "bos_piece": "<s>",
    "eos_piece": "</s>",
    "pad_piece": "<pad>",
}
_NORMALIZER = {
    2: ("precompiled_charsmap", "bytes"),
    3: ("add_dummy_prefix", "flag"),
    4: ("remove_extra_whitespaces", "flag"),
    5: ("escape_whitespaces", "flag"),
}
_NORMALIZER_DEFAULTS: dict[str, Any] = {
    "precompiled_charsmap": b"",
    "add_dummy_prefix": True,
    "remove_extra_whitespaces": True,
    "escape_whitespaces": True,
}
