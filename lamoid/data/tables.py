"""Rows of ``.csv`` and ``.tsv`` files and of Parquet files, one after the other, whatever the length of the file."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from lamoid.data import files
from lamoid.data.compressed import unpacked_whole
from lamoid.data.damage import Damage
from lamoid.data.files import form_of, is_packed, open_source, text_blocks, text_lines
from lamoid.errors import InputError

LONGEST_CELL = 2**24
LONGEST_COLUMN = 2**31  # bytes of one column in one row group of a Parquet file
ROWS = 256  # rows held at once
_END = re.compile(r"\r\n|\n|\r")


def table_rows(path: Path, damage: Damage | None = None) -> Iterator[tuple[int, list[str]]]:
    """Give the rows with the lines on which they end; quotes mean nothing in a ``.tsv``, where no cell has a tab.

    The dialect of a ``.csv`` is that of RFC 4180, with ends of lines of any kind. Raise ``InputError`` for what is no
    UTF-8 text (or mend it and count it in ``damage``) or no CSV, and for a cell of more than ``LONGEST_CELL``
    characters.
    """
    if form_of(path) == ".tsv":
        for number, line in text_lines(path, damage):
            yield number, line.decode().split("\t")
        return
    reader = csv.reader(_lines(text_blocks(path, damage), path), strict=True)
    while rows := _next_rows(reader, path):
        yield from rows


def table_texts(path: Path, field: str, damage: Damage | None = None) -> Iterator[tuple[int, str]]:
    """Give the texts of the column that the first row calls ``field``, each with the line on which its row ends."""
    rows = table_rows(path, damage)
    head = next((row for _, row in rows), None)
    if head is None:
        return
    if head.count(field) != 1:
        problem = f"its first line has no single column {field[:60]!r}, only {', '.join(head)[:200]}"
        raise InputError(path, problem, "name the column that holds the text (field)")
    place = head.index(field)
    for number, row in rows:
        if len(row) != len(head):
            problem = f"has {len(row)} columns, not {len(head)}"
            raise InputError(f"{path}: line {number}", problem, "mend the line")
        yield number, row[place]


def parquet_rows(path: Path, fields: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Give the values of some columns of a Parquet file for each row, with the row's number from 1.

    A text that stands in many rows is held once. Needs ``pyarrow``. Raise ``InputError`` for what is damaged and for a
    column that is not there.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(
            path, "needs pyarrow, which is not installed", "install it: pip install 'lamoid[data]'"
        ) from error
    with ExitStack() as stack:
        source, size = stack.enter_context(open_source(path))
        file: BinaryIO = source
        if is_packed(path):
            file = stack.enter_context(unpacked_whole(source, size, path))
        number = 0
        try:
            metadata = pq.read_metadata(file)
            _check_columns(metadata.schema.to_arrow_schema().names, metadata, fields, path)
            table = stack.enter_context(pq.ParquetFile(file, metadata=metadata, read_dictionary=list(fields)))
            for batch in table.iter_batches(ROWS, columns=list(fields)):
                columns = [batch.column(batch.schema.get_field_index(field)) for field in fields]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield number, tuple(value.as_py() for value in values)
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: row {number}", f"is not UTF-8: {error.reason}", "mend the row") from error
        except (pa.ArrowException, OSError) as error:
            problem = f"is no whole Parquet file: {str(error)[:200]}"
            raise InputError(path, problem, "take a whole copy of the file") from error


def parquet_texts(path: Path, field: str) -> Iterator[tuple[int, str]]:
    """Give the texts of a column of a Parquet file, each with its row's number from 1."""
    for number, (value,) in parquet_rows(path, [field]):
        if not isinstance(value, str):
            problem = (
                f"has no text in the column {field[:60]!r}, but {str(value)[:80]!r} of type {type(value).__name__}"
            )
            raise InputError(f"{path}: row {number}", problem, "name the column that holds the text (field)")
        yield number, value


def _check_columns(names: Sequence[str], metadata: Any, fields: Sequence[str], path: Path) -> None:
    for field in fields:
        if list(names).count(field) != 1:
            problem = f"has no single column {field[:60]!r}, only {', '.join(names)[:200]}"
            raise InputError(path, problem, "name the column that holds the text (field)")
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in range(row_group.num_columns):
            column = row_group.column(index)
            if column.path_in_schema in fields and column.total_uncompressed_size > LONGEST_COLUMN:
                problem = f"has a row group with {column.total_uncompressed_size} bytes of {column.path_in_schema!r}"
                raise InputError(path, f"{problem}, the limit is {LONGEST_COLUMN}", "write smaller row groups")


def _next_rows(reader: Any, path: Path) -> list[tuple[int, list[str]]]:
    """Read a few rows that are not empty; the limit of a cell is the whole process's, so it is raised only here."""
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        return list(islice(((reader.line_num, row) for row in reader if row), ROWS))
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}", f"is no CSV: {error}", "mend the quotes") from error
    finally:
        csv.field_size_limit(before)


def _lines(blocks: Iterable[str], path: Path) -> Iterator[str]:
    """Cut a text into lines with their ends; an end of two characters may stand across two blocks."""
    held, number = "", 0
    for block in blocks:
        text, start = held + block, 0
        for end in _END.finditer(text):
            if end[0] == "\r" and end.end() == len(text):
                break
            number += 1
            yield text[start : end.end()]
            start = end.end()
        held = text[start:]
        if len(held) > files.LONGEST_LINE:
            problem = f"is longer than {files.LONGEST_LINE} characters"
            raise InputError(f"{path}: line {number + 1}", problem, "split the row")
    if held:
        yield held
