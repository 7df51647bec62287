"""Which tokens begin a word, read off the pieces of a vocabulary: what is masked whole is masked by words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lamoid.text.tokenizer import Tokenizer

_IDEOGRAPHS = ((0x2E80, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_LEADS_OF_IDEOGRAPHS = range(0xE3, 0xEA)
_BROKEN = "\ufffd"


class Joints(NamedTuple):
    """How a piece joins its neighbours.

    ``left`` holds where it begins within a word, if the one before ends in one, which ``right`` tells. It is ``glued``
    if it continues whatever is before: WordPiece's ``##`` pieces, and the later bytes of a character. One that is
    nothing but such bytes ``inherits`` the end of the one before.
    """

    left: bool = False
    right: bool = False
    glued: bool = False
    inherits: bool = False


@dataclass(frozen=True)
class WordStarts:
    """The joints of every id of a vocabulary, in the order of ``Joints``: (4, vocab)."""

    joints: NDArray[np.bool_]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "WordStarts":
        """Read the pieces of a tokenizer; a control token is no part of a word."""
        pieces = tokenizer.pieces()
        read = _reader(tokenizer)
        joints = np.zeros((4, len(pieces)), np.bool_)
        for number, piece in enumerate(pieces):
            if piece is not None and number not in tokenizer.controls:
                joints[:, number] = read(piece)
        return cls(joints)

    def starts(self, tokens: NDArray[np.int64], documents: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell of each token of a row (L,) whether a word begins with it; a document's first token begins one."""
        left, right, is_glued, inherits = self.joints[:, tokens]
        ender = np.maximum.accumulate(np.where(inherits, 0, np.arange(len(tokens))))
        begins = np.ones(len(tokens), np.bool_)
        begins[1:] = ~(is_glued[1:] | (left[1:] & right[ender][:-1])) | (documents[1:] != documents[:-1])
        return begins


def _reader(tokenizer: Tokenizer) -> Callable[[str], Joints]:
    """Give the function that tells how a piece joins."""
    mark = tokenizer.continuation_mark
    if mark is not None:
        return lambda piece: Joints(glued=piece.startswith(mark) and piece != mark)
    if tokenizer.byte_level:
        return lambda piece: _of_bytes(bytes(_BYTES[character] for character in piece if character in _BYTES))
    return _of_text


def _of_text(piece: str) -> Joints:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return _of_bytes(bytes.fromhex(piece[3:5]))
    text = piece.replace("\u2581", " ")
    return Joints(_in_word(text[0]), _in_word(text[-1])) if text else Joints()


def _of_bytes(piece: bytes) -> Joints:
    """Read a piece that may begin or end within a character of several bytes, whose first byte then decides."""
    leads = [byte for byte in piece if not _is_later(byte)]
    if not leads:
        return Joints(glued=bool(piece), inherits=bool(piece))
    text = piece.decode(errors="replace")
    left = leads[0] not in _LEADS_OF_IDEOGRAPHS if text[0] == _BROKEN else _in_word(text[0])
    right = leads[-1] not in _LEADS_OF_IDEOGRAPHS if text[-1] == _BROKEN else _in_word(text[-1])
    return Joints(left, right, _is_later(piece[0]))


def _is_later(byte: int) -> bool:
    """Is it a byte of a character, but not the first?"""
    return 0x80 <= byte < 0xC0


def _in_word(character: str) -> bool:
    """Is it a letter or digit of a script that parts its words? An ideograph is a word of its own."""
    is_ideograph = any(low <= ord(character) <= high for low, high in _IDEOGRAPHS)
    return character.isalnum() and not is_ideograph


def _byte_stand_ins() -> dict[str, int]:
    """Give GPT-2's stand-ins: printable bytes stand for themselves, the others for what comes from U+0100 on."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in kept]
    return {chr(byte): byte for byte in kept} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_stand_ins()
