"""Which tokens begin a word, read off the pieces of a vocabulary: what is masked whole is masked by words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamoid.text.tokenizer import Tokenizer

_IDEOGRAPHS = ((0x2E80, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_LEADS_OF_IDEOGRAPHS = range(0xE3, 0xEA)


@dataclass(frozen=True)
class WordStarts:
    """For each id of a vocabulary, how it joins its neighbours; both (vocab,).

    ``joins_left`` holds where a piece begins within a word, if the one before ends in one, ``joins_right``. ``is_glued``
    holds where it continues whatever is before: WordPiece's ``##`` pieces and the later bytes of a character.
    """

    joins_left: NDArray[np.bool_]
    joins_right: NDArray[np.bool_]
    is_glued: NDArray[np.bool_]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "WordStarts":
        """Read the pieces of a tokenizer; a control token is no part of a word."""
        pieces = tokenizer.pieces()
        read = _reader(pieces, byte_level=tokenizer.byte_level)
        flags = np.zeros((3, len(pieces)), np.bool_)
        for number, piece in enumerate(pieces):
            if piece is not None and number not in tokenizer.controls:
                flags[:, number] = read(piece)
        return cls(*flags)

    def starts(self, tokens: NDArray[np.int64], documents: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell of each token of a row (L,) whether a word begins with it; a document's first token begins one."""
        begins = np.ones(len(tokens), np.bool_)
        joined = self.is_glued[tokens[1:]] | (self.joins_left[tokens[1:]] & self.joins_right[tokens[:-1]])
        begins[1:] = ~joined | (documents[1:] != documents[:-1])
        return begins


def _reader(pieces: Sequence[str | None], *, byte_level: bool):
    """Give the function that tells how a piece joins: left, right, glued."""
    if byte_level:
        return lambda piece: _of_bytes(bytes(_BYTES[character] for character in piece if character in _BYTES))
    if any(piece is not None and piece.startswith("##") and len(piece) > 2 for piece in pieces):
        return _of_word_piece
    return _of_text


def _of_word_piece(piece: str) -> tuple[bool, bool, bool]:
    return False, False, piece.startswith("##") and len(piece) > 2


def _of_text(piece: str) -> tuple[bool, bool, bool]:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return _of_bytes(bytes.fromhex(piece[3:5]))
    text = piece.replace("\u2581", " ")
    return (_in_word(text[0]), _in_word(text[-1]), False) if text else (False, False, False)


def _of_bytes(piece: bytes) -> tuple[bool, bool, bool]:
    """Read a piece that may begin or end within a character of several bytes."""
    if not piece:
        return False, False, False
    is_glued = 0x80 <= piece[0] < 0xC0
    text = piece.decode(errors="replace")
    first, last = text[0], text[-1]
    joins_left = piece[0] not in _LEADS_OF_IDEOGRAPHS if first == "\ufffd" else _in_word(first)
    return joins_left and not is_glued, last == "\ufffd" or is_glued or _in_word(last), is_glued


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
