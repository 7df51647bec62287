"""Word vectors from a file (word2vec's or GloVe's), for the words of a vocabulary, to start an embedding table from.

Text: a line is a word and its numbers, parted by spaces; word2vec's has a first line with the number of words and of
numbers each. A name that ends in ``.bin`` is word2vec's binary form: that first line, then for each word its text, a
space and 4-byte little-endian floats. Either may be packed by gzip, which the content tells. The file is read once, in
pieces, and only the vectors of the words asked for are kept.
"""

import gzip
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from lamoid.contained import open_plain
from lamoid.errors import InputError
from lamoid.text.streaming import piece_bytes
from lamoid.text.tokenizer import Tokenizer

LONGEST_WORD = 4096  # bytes
LONGEST_NUMBER = 64  # bytes, with the space before it
WIDEST = 2**16
CURE = "fetch the file of word vectors again"
SPACES = "\u2581 "


def vocabulary_words(tokenizer: Tokenizer) -> dict[str, int]:
    """Give the words that tokens of the vocabulary stand for, each with its id.

    A piece's mark of a leading space (``\u2581``, or the space itself of a byte-level piece) is taken off, and the rest
    compared as it is, capitals included. Where a vocabulary has a piece with and without the mark, the marked one is
    the word: the other also stands inside of words. Control tokens, ``##`` continuations and pieces that are not whole
    UTF-8 are no words.
    """
    marked: dict[str, int] = {}
    bare: dict[str, int] = {}
    for number, piece in enumerate(tokenizer.pieces()):
        if piece is None or number in tokenizer.controls or piece.startswith("##"):
            continue
        try:
            text = piece_bytes(piece).decode() if tokenizer.byte_level else piece
        except UnicodeDecodeError:
            continue
        word = text.lstrip(SPACES)
        if word:
            (bare if word == text else marked).setdefault(word, number)
    return {**bare, **marked}


def read_vectors(path: Path | str, words: Mapping[str, int], width: int) -> tuple[Tensor, Tensor]:
    """Read the vectors of ``words`` (word to token id): (N, width) float32, and their ids (N,) in the file's order.

    Of a word that stands there twice the first counts. Raise InputError naming file and line (binary: the word's
    number) for another width, a number that is none or is not finite, a count that the file does not keep, and a file
    that has none of the words.
    """
    path = Path(path)
    if not 1 <= width <= WIDEST:
        raise InputError("width", f"{width} is not from 1 to {WIDEST}", "give the width of the embedding table")
    wanted = {word.encode(): number for word, number in words.items()}
    binary = path.name.removesuffix(".gz").endswith(".bin")
    rows: list[np.ndarray] = []
    ids: list[int] = []
    with _opened(path) as file:
        read = _binary(file, path, width) if binary else _text(file, path, width)
        for word, vector in read:
            number = wanted.pop(word, None)
            if number is not None:
                rows.append(vector())
                ids.append(number)
            if not wanted:
                break
    if not rows:
        raise InputError(path, f"has none of the {len(words)} words", "choose a file of the same language and script")
    return torch.from_numpy(np.stack(rows)), torch.tensor(ids)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with os.fdopen(open_plain(path)[0], "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked  # pyright: ignore[reportReturnType]
        else:
            yield file


def _text(file: BinaryIO, path: Path, width: int) -> Iterator[tuple[bytes, Callable[[], np.ndarray]]]:
    limit = LONGEST_WORD + width * LONGEST_NUMBER
    promised: int | None = None
    line, number = _line(file, path, limit), 1
    counts = _header(line, path, width)
    if counts is not None:
        promised, line, number = counts, _line(file, path, limit), 2
    while line:
        where = f"{path}: line {number}"
        if len(line) == limit:
            raise InputError(where, f"is longer than {limit} bytes, the limit for {width} numbers", CURE)
        parts = line.rstrip(b" \r\n").rsplit(b" ", width)
        if len(parts) != width + 1 or not parts[0]:
            raise InputError(where, f"has {len(parts) - 1} numbers behind a word, not {width}", "check the width")
        yield parts[0], lambda where=where, parts=parts: _numbers(parts[1:], where)
        line, number = _line(file, path, limit), number + 1
    found = number - (1 if promised is None else 2)
    if promised is not None and promised != found:
        raise InputError(path, f"promises {promised} words in line 1 and has {found}", CURE)


def _header(line: bytes, path: Path, width: int) -> int | None:
    """Give the number of words that a first line of two whole numbers promises; None if it is a word's line."""
    parts = line.split()
    if len(parts) != 2 or not all(part.isdigit() and len(part) < 12 for part in parts):
        return None
    if int(parts[1]) != width:
        problem = f"its vectors have {int(parts[1])} numbers, not {width}"
        raise InputError(f"{path}: line 1", problem, "give the width of the file")
    return int(parts[0])


def _numbers(fields: list[bytes], where: str) -> np.ndarray:
    vector = np.empty(len(fields))
    for place, field in enumerate(fields):
        try:
            vector[place] = float(field.replace(b"_", b"x"))  # Python reads 1_0 as ten, other languages do not
        except ValueError:
            raise InputError(where, f"number {place + 1} is {field[:40]!r}, no number", CURE) from None
    return _finite(vector, where)


def _finite(vector: np.ndarray, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        single = vector.astype(np.float32)
    if not np.isfinite(single).all():
        place = int(np.flatnonzero(~np.isfinite(single))[0])
        raise InputError(where, f"number {place + 1} is {vector[place]}, beyond what a 32-bit float holds", CURE)
    return single


def _binary(file: BinaryIO, path: Path, width: int) -> Iterator[tuple[bytes, Callable[[], np.ndarray]]]:
    count = _header(_line(file, path, 64), path, width)
    if count is None:
        raise InputError(f"{path}: line 1", "must hold the number of words and of numbers each", CURE)
    for number in range(1, count + 1):
        where = f"{path}: word {number}"
        word = bytearray()
        while (byte := _bytes(file, path, 1)) != b" ":
            if not byte or len(word) == LONGEST_WORD:
                raise InputError(where, f"ends inside a word, or the word is over {LONGEST_WORD} bytes", CURE)
            word += byte
        data = _bytes(file, path, 4 * width)
        if len(data) < 4 * width:
            raise InputError(where, f"ends after {len(data)} of {4 * width} bytes", CURE)
        yield bytes(word.lstrip(b"\n")), lambda data=data, where=where: _finite(np.frombuffer(data, "<f4"), where)
    if _bytes(file, path, 2) not in (b"", b"\n"):
        raise InputError(path, f"has more behind the {count} words promised", CURE)


def _line(file: BinaryIO, path: Path, limit: int) -> bytes:
    return _guarded(file.readline, limit, path)


def _bytes(file: BinaryIO, path: Path, count: int) -> bytes:
    return _guarded(file.read, count, path)


def _guarded(read: Callable[[int], bytes], size: int, path: Path) -> bytes:
    try:
        return read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(path, f"reading failed ({str(error)[:200]})", CURE) from None
