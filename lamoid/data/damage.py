"""Bytes of a text file that are no text: refused with the place of the first, or mended, counted and reported."""

import codecs
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from lamoid.errors import InputError

RECODE = "convert it to UTF-8, for instance with `iconv -f ENCODING -t UTF-8`"
MEND = "or mend it with `lamoid clean --encoding-errors replace` (or skip)"
MARK = "\N{REPLACEMENT CHARACTER}"
SAMPLES = 3
_ENCODED_MARK = MARK.encode()


class TextDecoder(Protocol):
    """Turns the blocks of one file, which stand at growing offsets, into text."""

    def decode(self, block: bytes, offset: int, *, final: bool = False) -> str:
        """Give the text of a block; with ``final`` none goes on from it, and an empty one is the end."""
        ...


@dataclass
class Damage:
    """What was mended: how many places each file had that are no UTF-8 text, or NUL; and the first files' first.

    ``replace`` puts U+FFFD where such bytes stood, ``skip`` leaves them out.
    """

    mode: Literal["replace", "skip"]
    places: dict[str, int] = field(default_factory=dict)
    samples: list[tuple[str, str]] = field(default_factory=list)  # place and bytes, what stands there now

    def decoder(self, path: Path) -> TextDecoder:
        """Give the decoder of one file, which mends and counts here."""
        return _Mending(self, str(path))

    def note(self, name: str, places: int, offset: int, wrong: bytes) -> None:
        """Count places of a file; the first one, its bytes ``wrong`` at ``offset``, may become a sample."""
        if name not in self.places and len(self.samples) < SAMPLES:
            now = MARK if self.mode == "replace" else ""
            self.samples.append((f"{name}: byte offset {offset}: {wrong.hex(' ')}", now))
        self.places[name] = self.places.get(name, 0) + places


class Refusing:
    """Decodes one file; raises ``InputError`` with the offset of the first byte that is no UTF-8 text, or NUL."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def decode(self, block: bytes, offset: int, *, final: bool = False) -> str:
        """Give the text of a block."""
        if (place := block.find(b"\0")) >= 0:
            problem = f"has a NUL byte at byte offset {offset + place}: it is binary, or text in UTF-16"
            raise InputError(self._path, problem, f"leave it out, {RECODE}, {MEND}")
        held = len(self._decoder.getstate()[0])
        try:
            return self._decoder.decode(block, final=final or not block)
        except UnicodeDecodeError as error:
            problem = f"is not UTF-8: {error.reason} at byte offset {offset - held + error.start}"
            raise InputError(self._path, problem, f"{RECODE}, {MEND}") from error


class _Mending:
    """Decodes one file and mends what is no text.

    Each place becomes one U+FFFD in the standard decoder's hands; those that the file itself holds are not counted.
    """

    def __init__(self, damage: Damage, name: str) -> None:
        self._damage, self._name = damage, name
        self._marking = codecs.getincrementaldecoder("utf-8")("replace")
        self._skipping = codecs.getincrementaldecoder("utf-8")("ignore")

    def decode(self, block: bytes, offset: int, *, final: bool = False) -> str:
        """Give the text of a block, mended."""
        held = self._marking.getstate()[0]
        is_last = final or not block
        text = self._marking.decode(block, is_last)
        data = held + block
        places = text.count(MARK) - data.count(_ENCODED_MARK) + block.count(b"\0")
        if places:
            begin, end = _first_wrong(data)
            self._damage.note(self._name, places, offset - len(held) + begin, data[begin:end])
        if self._damage.mode == "replace":
            return text.replace("\0", MARK)
        return self._skipping.decode(block, is_last).replace("\0", "")


def _first_wrong(data: bytes) -> tuple[int, int]:
    """Give the first bytes that are no text, or NUL."""
    nul = data.find(b"\0")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if nul < 0 or error.start < nul:
            return error.start, error.end
    return nul, nul + 1
