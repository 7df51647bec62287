"""Documents: text files, the parts between separators, lines of JSONL, rows of tables and of data sets by name."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lamoid.data.damage import Damage
from lamoid.data.files import (
    LINE_SUFFIXES,
    PARQUET_SUFFIX,
    TABLE_SUFFIXES,
    find_files,
    form_of,
    is_packed,
    text_blocks,
    text_lines,
)
from lamoid.data.hub_sets import hub_identity, hub_texts, is_hub_name
from lamoid.data.tables import parquet_texts, table_texts
from lamoid.errors import InputError

LONGEST_UNPACKED = 2**28  # characters of a packed file whose documents are asked for in one piece each
_TRIES = 100  # places looked at before a text is cut anywhere
_UNREAD_ESCAPE = re.compile(r"\\[nrt](?![A-Za-z])")  # \n as two characters; \newpage is a word of TeX


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
    damage: Damage | None = None,
) -> Iterator[Document]:
    """Read the documents of files, folders, globs and data sets, one after the other, in a fixed order.

    A file is one document, or, with a ``separator``, one between each two of them (the separator itself is dropped; a
    line's end in it stands for CR LF too);
    in a ``.jsonl`` or ``.ndjson`` file each line is one, its text under ``field``, in a ``.csv``, ``.tsv`` or
    ``.parquet`` file each row, its text in the column ``field``; with ``.gz`` behind the name a file is unpacked on the
    way. ``hf:NAME[/CONFIG][:SPLIT]`` is a data set of Hugging Face, or a folder that ``datasets`` made. Files and
    folders come first, in the order of ``find_files``, then the data sets. Line ends are kept. Documents
    without any character but white space are left out. With ``part``, longer documents come in parts of at most that
    many characters, cut where no token can stand across, and memory stays flat however long a document is.
    Raise InputError for what is no UTF-8 text, unless ``damage`` mends and counts it, and for a named file, or all
    files together, without a document.
    """
    check_separator(separator)
    if isinstance(paths, str | Path):
        paths = [paths]
    total = 0
    for path, named in _sources(paths):
        count = 0
        for document in _read_file(path, separator, field, part, damage):
            count += 1
            yield document
        if named and count == 0:
            raise InputError(path, "is empty or holds nothing but white space", "name a file with text in it")
        total += count
    if total == 0:
        raise InputError(", ".join(map(str, paths))[:300], "hold no text at all", "name files with text in them")


def check_separator(separator: str | None) -> None:
    """Raise ``InputError`` for one that is empty, or that says a line's end with a backslash that nobody read."""
    if separator == "":
        raise InputError("separator", "is empty", "give at least one character, or leave it out")
    if separator is not None and (found := _UNREAD_ESCAPE.search(separator)):
        problem = f"is {separator[:60]}, with a backslash and the letter {found[0][1]} as two characters"
        raise InputError("separator", problem, """write $'\\n\\n' in a shell, or "\\n\\n" in TOML, for a blank line""")


def cut_documents(documents: Iterable[Document], part: int) -> Iterator[Document]:
    """Give whole documents in parts of at most ``part`` characters, as ``read_documents`` does."""
    for document in documents:
        yield from _parts(document.name, [(document.text, True)], part)


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


def files_size(paths: Sequence[str | Path]) -> int | None:
    """Give the bytes of all files together, or None where one is packed, Parquet or a data set, and hides its size."""
    found = list(_sources(paths))
    texts = [path for path, _ in found if isinstance(path, Path) and not is_packed(path)]
    if len(texts) < len(found) or any(form_of(path) == PARQUET_SUFFIX for path in texts):
        return None
    return sum(path.stat().st_size for path in texts)


def source_names(paths: Sequence[str | Path]) -> tuple[str, ...]:
    """Give the paths as they were named, and of each data set which data exactly it is."""
    return tuple(hub_identity(path) if isinstance(path, str) and is_hub_name(path) else str(path) for path in paths)


def _sources(paths: Sequence[str | Path]) -> Iterator[tuple[Path | str, bool]]:
    """Give the files, and then the names of data sets, each with whether it was named itself."""
    names = list(dict.fromkeys(path for path in paths if isinstance(path, str) and is_hub_name(path)))
    rest = [path for path in paths if path not in names]
    if rest or not names:
        yield from find_files(rest)
    for name in names:
        yield name, True


def _rows(path: Path | str, field: str, damage: Damage | None) -> Iterator[tuple[str, str]] | None:
    """Give the names and texts of the rows of a source that has rows, and None for a text file."""
    if isinstance(path, str):
        return ((f"{path}:{number}", text) for number, text in hub_texts(path, field))
    form = form_of(path)
    if form in LINE_SUFFIXES:
        return ((f"{path}:{n}", _line_text(line, field, f"{path}:{n}")) for n, line in text_lines(path, damage))
    if form in TABLE_SUFFIXES:
        return ((f"{path}:{number}", text) for number, text in table_texts(path, field, damage))
    if form == PARQUET_SUFFIX:
        return ((f"{path}:{number}", text) for number, text in parquet_texts(path, field))
    return None


def _read_file(
    path: Path | str, separator: str | None, field: str, part: int | None, damage: Damage | None
) -> Iterator[Document]:
    rows = _rows(path, field, damage)
    if rows is not None:
        for name, text in rows:
            yield from _parts(name, [(text, True)], part)
        return
    path = Path(path)
    blocks = text_blocks(path, damage)
    if part is None and is_packed(path):
        blocks = _bounded(blocks, path)
    number = 0
    for pieces in _split(blocks, separator):
        name = f"{path}#{number}" if separator else str(path)
        for document in _parts(name, pieces, part):
            yield document
            number += document.ends


def _bounded(blocks: Iterable[str], path: Path) -> Iterator[str]:
    """Refuse a packed file that unpacks to more than can be meant to be held whole."""
    length = 0
    for block in blocks:
        length += len(block)
        if length > LONGEST_UNPACKED:
            problem = f"unpacks to more than {LONGEST_UNPACKED} characters, too many to be held at once"
            raise InputError(path, problem, "unpack it, or cut it into smaller files")
        yield block


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
    pattern, longest = _separating(separator)

    def document() -> Iterator[tuple[str, bool]]:
        nonlocal rest
        text, start = rest or ("", 0)
        while (found := pattern.search(text, start)) is None:
            keep = max(start, len(text) - longest + 1)
            block = next(source, None)
            if block is None:
                rest = None
                yield text[start:], True
                return
            yield text[start:keep], False
            text, start = text[keep:] + block, 0
        rest = (text, found.end())
        yield text[start : found.start()].removesuffix("\r" if separator[0] == "\n" else ""), True

    while rest is not None:
        yield document()


def _separating(separator: str) -> tuple[re.Pattern[str], int]:
    """Give what finds a separator, each of its line's ends written LF or CR LF, and its most characters.

    A CR before a line's end that it begins with is left to the caller: a pattern whose first letter is known is 10
    times faster.
    """
    pieces = map(re.escape, separator.split("\n"))
    pattern = "\r?\n".join(pieces).removeprefix("\r?")
    return re.compile(pattern), len(separator) + separator.count("\n")


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
