"""Documents from text files: a whole file, the parts between separators, or the lines of a JSONL file."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lamoid.data.files import LINE_SUFFIXES, find_files, text_blocks, text_lines
from lamoid.errors import InputError

_TRIES = 100  # places looked at before a text is cut anywhere


@dataclass(frozen=True)
class Document:
    """One document, or, where ``ends`` is False, a part of one that the next Document continues."""

    name: str
    text: str
    ends: bool = True


def read_documents(
    paths: Sequence[str | Path],
    *,
    separator: str | None = None,
    field: str = "text",
    part: int | None = None,
) -> Iterator[Document]:
    """Read the documents of files, folders and globs, one after the other, in a fixed order.

    A file is one document, or, with a ``separator``, one between each two of them (the separator itself is dropped);
    in a ``.jsonl`` or ``.ndjson`` file each line is one, its text under ``field``. Line ends are kept. Documents
    without any character but white space are left out. With ``part``, longer documents come in parts of at most that
    many characters, cut where no token can stand across, and memory stays flat however long a document is.
    Raise InputError for what is no UTF-8 text, and for a named file, or all files together, without a document.
    """
    if separator == "":
        raise InputError("separator", "is empty", "give at least one character, or leave it out")
    if isinstance(paths, str | Path):
        paths = [paths]
    total = 0
    for path, named in find_files(paths):
        count = 0
        for document in _read_file(path, separator, field, part):
            count += 1
            yield document
        if named and count == 0:
            raise InputError(path, "is empty or holds nothing but white space", "name a file with text in it")
        total += count
    if total == 0:
        raise InputError(", ".join(map(str, paths))[:300], "hold no text at all", "name files with text in them")


def cut_place(text: str, limit: int) -> int:
    """Give the last place up to ``limit`` where a text may be cut so that tokenizers see the same words.

    That is after a line's end, else before a space, each with no other white space around; else ``limit`` itself.
    """
    lowest = limit // 2
    for cut in _places(text, "\n", lowest, limit, after=True):
        return cut
    for cut in _places(text, " ", lowest, limit, after=False):
        return cut
    return limit


def _places(text: str, mark: str, lowest: int, limit: int, *, after: bool) -> Iterator[int]:
    place = limit
    for _ in range(_TRIES):
        place = text.rfind(mark, lowest, place)
        if place <= 0:
            return
        if not text[place - 1].isspace() and not text[place + 1].isspace():
            yield place + after


def _read_file(path: Path, separator: str | None, field: str, part: int | None) -> Iterator[Document]:
    if path.suffix.lower() in LINE_SUFFIXES:
        for number, line in text_lines(path):
            name = f"{path}:{number}"
            yield from _parts(name, [(_line_text(line, field, name), True)], part)
        return
    number = 0
    for pieces in _split(text_blocks(path), separator):
        name = f"{path}#{number}" if separator else str(path)
        for document in _parts(name, pieces, part):
            yield document
            number += document.ends


def _line_text(line: bytes, field: str, name: str) -> str:
    cure = 'write one JSON object a line, such as {"text": "..."}, or name the field that holds the text'
    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(name, f"is not JSON: {error}", cure) from error
    text = record.get(field) if isinstance(record, dict) else None
    if not isinstance(text, str):
        if isinstance(record, dict) and field in record:
            there = f"but {str(record[field])[:80]!r} of type {type(record[field]).__name__}"
        else:
            there = f"only {', '.join(record)[:200] or 'no field'}" if isinstance(record, dict) else "no object"
        raise InputError(name, f"has no text in the field {field!r}, {there}", cure)
    return text


def _split(blocks: Iterable[str], separator: str | None) -> Iterator[Iterable[tuple[str, bool]]]:
    """Give for each document its blocks, each with whether it is the last; they must be used up one by one."""
    if separator is None:
        yield _marked(blocks)
        return
    source = iter(blocks)
    rest: tuple[str, int] | None = ("", 0)  # a block and how far it is used up

    def document(separator: str) -> Iterator[tuple[str, bool]]:
        nonlocal rest
        text, start = rest or ("", 0)
        while (place := text.find(separator, start)) < 0:
            keep = max(start, len(text) - len(separator) + 1)
            block = next(source, None)
            if block is None:
                rest = None
                yield text[start:], True
                return
            yield text[start:keep], False
            text, start = text[keep:] + block, 0
        rest = (text, place + len(separator))
        yield text[start:place], True

    while rest is not None:
        yield document(separator)


def _marked(blocks: Iterable[str]) -> Iterator[tuple[str, bool]]:
    for block in blocks:
        yield block, False
    yield "", True


def _parts(name: str, pieces: Iterable[tuple[str, bool]], part: int | None) -> Iterator[Document]:
    """Join the blocks of one document and cut it into parts; give nothing for a blank one."""
    held: list[str] = []
    length, begun = 0, False
    for text, last in pieces:
        held.append(text)
        length += len(text)
        if not last and (part is None or length <= part):
            continue
        text = "".join(held)
        while part is not None and len(text) > part:
            cut = cut_place(text, part)
            yield Document(name, text[:cut], ends=False)
            begun, text = True, text[cut:]
        if last and (begun or not (text == "" or text.isspace())):
            yield Document(name, text)
        held, length = [text], len(text)
