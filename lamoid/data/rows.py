"""Rows of files as records: lines of JSON, a list in a JSON file, columns of a table or of a Parquet file."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamoid.contained import read_whole
from lamoid.data.files import LINE_SUFFIXES, PARQUET_SUFFIX, TABLE_SUFFIXES, find_files, form_of, text_lines
from lamoid.data.tables import parquet_rows, table_rows
from lamoid.errors import InputError
from lamoid.strict_json import parse_json

LARGEST_JSON = 2**30
JSON_SUFFIX = ".json"


@dataclass(frozen=True)
class Record:
    """The fields of one row, and where it stands."""

    fields: dict[str, Any]
    name: str

    def get(self, field: str) -> Any:
        """Give a field; ``InputError`` names the row and its fields if it is not there."""
        if field not in self.fields:
            problem = f"has no field {field[:60]!r}, only {', '.join(map(str, self.fields))[:200] or 'none'}"
            raise InputError(self.name, problem, "name the field in [data]")
        return self.fields[field]

    def text(self, field: str, *, may_be_empty: bool = False) -> str:
        """Give a field that is a text of more than white space."""
        value = self.get(field)
        if not isinstance(value, str):
            raise InputError(f"{self.name}: {field}", f"is {str(value)[:60]!r}, no text", "write a text")
        if not may_be_empty and not value.strip():
            raise InputError(f"{self.name}: {field}", "is a text of nothing but white space", "leave the row out")
        return value

    def number(self, field: str) -> float:
        """Give a field that is a finite number, in a table written as one."""
        value = self.get(field)
        try:
            number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{self.name}: {field}", f"is {str(value)[:60]!r}, no finite number", "write a number")
        return number

    def words(self, field: str, between: str = "") -> list[str]:
        """Give a field that is a list of texts, or in a table one text that ``between`` parts."""
        value = self.get(field)
        if isinstance(value, str) and between:
            value = [part.strip() for part in value.split(between) if part.strip()]
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            problem = f"is {str(value)[:60]!r}, no list of texts"
            raise InputError(f"{self.name}: {field}", problem, 'write ["one", "other"]')
        return value


def read_records(paths: Sequence[str | Path], fields: Sequence[str] = ()) -> Iterator[Record]:
    """Give the rows of files, folders and globs in order; of a Parquet file, only ``fields`` are read.

    Raise ``InputError`` for what cannot be read, and for files without a row.
    """
    is_empty = True
    for path, _ in find_files(paths):
        for record in _of_file(path, fields):
            is_empty = False
            yield record
    if is_empty:
        raise InputError(", ".join(map(str, paths))[:200], "holds no row", "name a file with some")


def _of_file(path: Path, fields: Sequence[str]) -> Iterator[Record]:
    form = form_of(path)
    if form in LINE_SUFFIXES:
        for number, line in text_lines(path):
            name = f"{path}: line {number}"
            yield _record(parse_json(line, file=name), name)
    elif form in TABLE_SUFFIXES:
        yield from _of_table(path)
    elif form == PARQUET_SUFFIX:
        for number, values in parquet_rows(path, fields):
            yield Record(dict(zip(fields, values, strict=True)), f"{path}: row {number}")
    elif form == JSON_SUFFIX:
        held = parse_json(read_whole(path, limit=LARGEST_JSON), file=path)
        for number, value in enumerate(held if isinstance(held, list) else [held], 1):
            yield _record(value, f"{path}: entry {number}")
    else:
        kinds = " ".join((*LINE_SUFFIXES, JSON_SUFFIX, *TABLE_SUFFIXES, PARQUET_SUFFIX))
        raise InputError(path, f"ends with {path.suffix[:20]!r}", f"give a file with one of: {kinds}")


def _record(value: Any, name: str) -> Record:
    if not isinstance(value, dict):
        raise InputError(name, "is no JSON object", 'write {"text": "...", "label": "..."}')
    return Record(value, name)


def _of_table(path: Path) -> Iterator[Record]:
    rows = table_rows(path)
    head = next((row for _, row in rows), [])
    if len(set(head)) != len(head):
        raise InputError(path, "its first line names a column twice", "give each a name of its own")
    for number, row in rows:
        if len(row) != len(head):
            raise InputError(f"{path}: line {number}", f"has {len(row)} columns, not {len(head)}", "mend the line")
        yield Record(dict(zip(head, row, strict=True)), f"{path}: line {number}")
