"""Token ids, one at a time, to text of whole characters that adds up to what decoding them together gives."""

import codecs
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def streaming_mode(decoder: Any) -> str:
    """Tell how a tokenizer.json's decoder can be run piece by piece: ``bytes`` or ``window``."""
    while isinstance(decoder, dict) and decoder.get("type") == "Sequence" and len(decoder.get("decoders") or ()) == 1:
        decoder = decoder["decoders"][0]
    return "bytes" if isinstance(decoder, dict) and decoder.get("type") == "ByteLevel" else "window"


class TextStream:
    """Takes one id at a time (``push``) and gives the text that is certain; ``finish`` gives the rest.

    A byte-level vocabulary is decoded byte by byte. For any other the pending ids are decoded behind the last id that
    is already text, so that a decoder which strips the first space of a text does not strip it here; ids that stand
    for single bytes are held until their run ends, because only then does the library know what they mean. Control
    tokens are left out, but for those that are ``shown``, by their names.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        token: Callable[[int], str | None],
        controls: frozenset[int],
        mode: str,
        before: Sequence[int] = (),
        shown: Collection[int] = (),
    ) -> None:
        self._decode = decode
        self._token = token
        self._controls = controls
        self._shown = shown
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace") if mode == "bytes" else None
        self._context = self._tail(before)
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """Take the next id and give the text that it completes, which may be empty."""
        if token in self._shown:
            return self.finish() + (self._token(token) or "")
        if token in self._controls:
            return ""
        piece = self._token(token)
        if piece is None:  # an id beyond the tokenizer's, of a model whose embedding was padded
            return ""
        if self._bytes is not None:
            return self._bytes.decode(piece_bytes(piece))
        self._pending.append(token)
        return "" if BYTE_TOKEN.fullmatch(piece) else self._flush()

    def finish(self) -> str:
        """Give what is left; half a character becomes U+FFFD."""
        return self._bytes.decode(b"", final=True) if self._bytes is not None else self._flush()

    def _flush(self) -> str:
        if not self._pending:
            return ""
        known = self._decode(self._context)
        text = self._decode([*self._context, *self._pending])
        if not text.startswith(known):  # bytes of this run and of the one before make no character together
            known, text = "", self._decode(self._pending)
        self._context, self._pending = self._pending[-1:], []
        return text[len(known) :]

    def _tail(self, before: Sequence[int]) -> list[int]:
        """Give the end of what is already text: one id and the run of byte ids after it."""
        tail: list[int] = []
        for token in reversed(before):
            piece = None if token in self._controls else self._token(token)
            if piece is None:
                continue
            tail.append(token)
            if not BYTE_TOKEN.fullmatch(piece):
                break
        return tail[::-1]


def piece_bytes(piece: str) -> bytes:
    """Give the bytes of a byte-level piece; one with foreign characters stands for itself, as in the library."""
    try:
        return bytes(_BYTES[character] for character in piece)
    except KeyError:
        return piece.encode()


def _byte_table() -> dict[str, int]:
    """Give GPT-2's printable stand-ins for bytes: a visible Latin-1 character for itself, the others from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [b for b in range(256) if b not in visible]
    return {chr(b): b for b in visible} | {chr(0x100 + k): b for k, b in enumerate(others)}


_BYTES = _byte_table()
BYTE_NAMES = tuple(sorted(_BYTES, key=_BYTES.__getitem__))
