"""Text files read in blocks: what is no UTF-8 text is refused, with the offset of the first byte that is wrong.

A file whose name ends with ``.gz`` is unpacked on the way; offsets of text are then those of the unpacked bytes.
"""

import codecs
import glob
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lamoid.contained import open_plain
from lamoid.data.compressed import PACKED_SUFFIX, Unpacked
from lamoid.data.damage import RECODE, Damage, Refusing, TextDecoder
from lamoid.errors import InputError

BLOCK = 2**20
LONGEST_LINE = 64 * 2**20
LINE_SUFFIXES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (".tsv", ".csv")
PARQUET_SUFFIX = ".parquet"
TEXT_SUFFIXES = (".txt", ".text", ".md", *LINE_SUFFIXES, *TABLE_SUFFIXES, PARQUET_SUFFIX)


def find_files(paths: Sequence[str | Path]) -> list[tuple[Path, bool]]:
    """Give the files that files, folders and globs name, each once, and whether it was named itself.

    A folder stands for the files below it with a suffix of ``TEXT_SUFFIXES``, packed (``.gz``) or not, sorted by path;
    links to folders are not followed. A glob (``**`` goes into folders) stands for the files that it matches, sorted.
    Raise InputError where a path names nothing.
    """
    if not paths:
        raise InputError("sources", "none is given", "name at least one file, folder or glob")
    found: dict[Path, bool] = {}
    for path in paths:
        try:
            inside = _files_of(path)
        except OSError as error:
            raise InputError(error.filename or path, f"cannot be read: {error.strerror}", "check it") from error
        if not inside:
            kinds = f"no file with one of the suffixes {' '.join(TEXT_SUFFIXES)}" if Path(path).is_dir() else "no file"
            raise InputError(path, f"names {kinds}", "check the path; quote a glob so that the shell leaves it alone")
        for file, named in inside:
            found[file] = found.get(file, False) or named
    return list(found.items())


def form_of(path: Path) -> str:
    """Give the suffix, in small letters, that says how a file is read; for a packed file that before its ``.gz``."""
    return Path(path.stem if is_packed(path) else path.name).suffix.lower()


def is_packed(path: Path) -> bool:
    """Is it a gzip file, by its name?"""
    return path.suffix.lower() == PACKED_SUFFIX


def _files_of(path: str | Path) -> list[tuple[Path, bool]]:
    def refuse(error: OSError) -> None:
        raise error

    place = Path(path)
    if place.is_dir():
        walk = sorted(Path(top) / name for top, _, names in os.walk(place, onerror=refuse) for name in names)
        return [(p, False) for p in walk if form_of(p) in TEXT_SUFFIXES]
    if place.exists():
        return [(place, True)]
    matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
    return [(Path(p), False) for p in matches if Path(p).is_file()]


@contextmanager
def open_source(path: Path) -> Iterator[tuple[io.BufferedReader, int]]:
    """Open a plain file and give its size; trouble with the disk or the permissions becomes an InputError."""
    descriptor, size = open_plain(path)
    try:
        with os.fdopen(descriptor, "rb") as file:
            yield file, size
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror}", "check the file and its permissions") from error


@contextmanager
def open_text(path: Path) -> Iterator[tuple[io.BufferedReader, int | None]]:
    """Open a file, unpacked on the way if it is packed; its size is None then, for what it unpacks to is not known."""
    with open_source(path) as (file, size):
        if is_packed(path):
            yield io.BufferedReader(Unpacked(file, size, path), BLOCK), None
        else:
            yield file, size


def text_blocks(path: Path, damage: Damage | None = None) -> Iterator[str]:
    """Give the text of a UTF-8 file in blocks of at most BLOCK characters; a byte order mark is left out.

    What is no text is refused, or mended and counted in ``damage``.
    """
    decoder: TextDecoder = Refusing(path) if damage is None else damage.decoder(path)
    with open_text(path) as (file, size):
        offset = skip_mark(file, path)
        while block := file.read(BLOCK):
            yield decoder.decode(block, offset)
            offset += len(block)
        if rest := decoder.decode(b"", offset):
            yield rest
        check_whole(path, offset, size)


def text_lines(path: Path, damage: Damage | None = None) -> Iterator[tuple[int, bytes]]:
    """Give the lines of a UTF-8 file, with their numbers from 1 and without their ends; blank ones are left out.

    What is no text is refused, or mended and counted in ``damage``.
    """
    with open_text(path) as (file, size):
        offset, number = skip_mark(file, path), 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise InputError(f"{path}: line {number}", f"is longer than {LONGEST_LINE} bytes", "split the document")
            decoder: TextDecoder = Refusing(path) if damage is None else damage.decoder(path)
            text = decoder.decode(line, offset, final=True)
            offset += len(line)
            if damage is not None:
                line = text.encode()
            if not line.isspace():
                yield number, line.rstrip(b"\r\n")
        check_whole(path, offset, size)


def skip_mark(file: io.BufferedReader, path: Path) -> int:
    """Read past a byte order mark of UTF-8 and give its length; refuse the marks of UTF-16 and UTF-32."""
    head = file.peek(4)[:4]
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        raise InputError(path, "is UTF-16 or UTF-32 text (its first bytes say so)", RECODE)
    length = 3 if head.startswith(codecs.BOM_UTF8) else 0
    file.read(length)
    return length


def check_whole(path: Path, read: int, size: int | None) -> None:
    """Refuse a file that grew or shrank since it was opened: what was read of it is no one state of it.

    A packed file, whose size is None, was checked while it was unpacked.
    """
    if size is not None and read != size:
        raise InputError(path, f"changed while it was read: {size} bytes at first, {read} read", "try again on a copy")
