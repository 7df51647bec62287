"""Texts with a label each: columns of a table, fields of JSON lines, or a folder of text files for each label."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lamoid.data.files import LINE_SUFFIXES, PARQUET_SUFFIX, TABLE_SUFFIXES, form_of, text_blocks, text_lines
from lamoid.data.tables import parquet_rows, table_rows
from lamoid.errors import InputError
from lamoid.strict_json import parse_json


class HasText(Protocol):
    """Whatever has a text."""

    @property
    def text(self) -> str: ...


Texted = TypeVar("Texted", bound=HasText)


@dataclass(frozen=True)
class Labelled:
    """A text, its label, and where both stand."""

    text: str
    label: str
    name: str


def read_labelled(path: str | Path, *, text: str = "text", label: str = "label") -> list[Labelled]:
    """Read a ``.tsv``, ``.csv``, ``.jsonl``, ``.ndjson`` or ``.parquet`` file, packed (``.gz``) or not, or a folder.

    A folder has a folder of ``.txt`` files, packed or not, for each label.

    ``text`` and ``label`` name columns of the first line, or fields of a JSON object; whole numbers count the columns,
    from 1, of a table without such a line. A label is a text, a whole number or a truth value. Raise ``InputError``
    for what lacks either, a text of nothing but white space, and a file without any.
    """
    path = Path(path)
    if path.is_dir():
        found = list(_of_folder(path))
    elif form_of(path) in TABLE_SUFFIXES:
        found = list(_of_table(path, text, label))
    elif form_of(path) in LINE_SUFFIXES:
        found = [_of_line(line, f"{path}: line {number}", text, label) for number, line in text_lines(path)]
    elif form_of(path) == PARQUET_SUFFIX:
        rows = parquet_rows(path, (text, label))
        found = [_labelled(said, given, f"{path}: row {n}", (text, label)) for n, (said, given) in rows]
    elif not path.exists():
        raise InputError(path, "there is no such file or folder", "check the path")
    else:
        kinds = " ".join((*TABLE_SUFFIXES, *LINE_SUFFIXES, PARQUET_SUFFIX))
        raise InputError(path, f"ends with {path.suffix[:20]!r}", f"give a folder, or a file with one of: {kinds}")
    if not found:
        raise InputError(path, "holds no text with a label", "name a file or folder with some")
    for entry in found:
        if not entry.text.strip() or not entry.label.strip():
            what = "text" if not entry.text.strip() else "label"
            raise InputError(entry.name, f"has a {what} of nothing but white space", "leave it out")
    return found


def hold_out(found: Sequence[Texted], share: float) -> tuple[list[Texted], list[Texted]]:
    """Part texts by the hashes of their characters: about ``share`` of them come second, equal texts on one side.

    Neither the order nor the other texts matter. Raise ``InputError`` if a side is empty.
    """
    sides: tuple[list[Texted], list[Texted]] = ([], [])
    for entry in found:
        number = int.from_bytes(hashlib.sha256(entry.text.encode()).digest()[:8], "big")
        sides[number < share * 2**64].append(entry)
    if not all(sides):
        problem = f"of {len(found)} texts leaves nothing on one side"
        raise InputError("hold_out", problem, "choose another share, or give more texts")
    return sides


def number_labels(train: Sequence[Labelled], test: Sequence[Labelled]) -> tuple[tuple[str, ...], list[int], list[int]]:
    """Give the labels in their order as texts, and each text's label as a number.

    Raise ``InputError`` for less than two labels, and for one in ``test`` that ``train`` lacks.
    """
    names = tuple(sorted({entry.label for entry in train}))
    if len(names) < 2:
        raise InputError(
            train[0].name, f"all texts have the label {train[0].label[:60]!r}", "give texts of two labels or more"
        )
    numbers = {name: number for number, name in enumerate(names)}
    for entry in test:
        if entry.label not in numbers:
            problem = f"has the label {entry.label[:60]!r}, which no text to train on has"
            raise InputError(entry.name, problem, "mend the label, or train on it too")
    return names, [numbers[entry.label] for entry in train], [numbers[entry.label] for entry in test]


def _of_folder(folder: Path) -> Iterator[Labelled]:
    try:
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        for place in classes:
            for path in sorted(path for path in place.iterdir() if form_of(path) == ".txt"):
                yield Labelled("".join(text_blocks(path)), place.name, str(path))
    except OSError as error:
        raise InputError(folder, f"cannot be read: {error.strerror}", "check the folder") from error


def _of_table(path: Path, text: str, label: str) -> Iterator[Labelled]:
    rows = table_rows(path)
    if text.isdecimal() and label.isdecimal() and max(len(text), len(label)) < 5:
        said, given, width = int(text) - 1, int(label) - 1, 0
        if min(said, given) < 0:
            raise InputError(path, "a column is called 0", "count columns from 1")
    else:
        head = next((row for _, row in rows), [])
        for name in (text, label):
            if head.count(name) != 1:
                there = ", ".join(head)[:200] or "nothing"
                problem = f"its first line has no single column {name[:60]!r}, only {there}"
                raise InputError(path, problem, "name the columns with text and label, or count them: text = 1")
        said, given, width = head.index(text), head.index(label), len(head)
    for number, row in rows:
        if len(row) <= max(said, given) or (width and len(row) != width):
            wanted = width or max(said, given) + 1
            raise InputError(f"{path}: line {number}", f"has {len(row)} columns, not {wanted}", "mend the line")
        yield Labelled(row[said], row[given], f"{path}: line {number}")


def _of_line(line: bytes, name: str, text: str, label: str) -> Labelled:
    record = parse_json(line, file=name)
    if not isinstance(record, dict):
        raise InputError(name, "is no JSON object", 'write {"text": "...", "label": "..."}')
    return _labelled(_field(record, text, name), _field(record, label, name), name, (text, label))


def _labelled(said: Any, given: Any, name: str, fields: tuple[str, str]) -> Labelled:
    text, label = fields
    if not isinstance(said, str):
        raise InputError(name, f"{text[:60]!r} is {str(said)[:40]!r}, no text", "write a text")
    if not isinstance(given, str | int):
        raise InputError(name, f"{label[:60]!r} is {str(given)[:40]!r}", "write a text or a whole number")
    return Labelled(said, given if isinstance(given, str) else str(given), name)


def _field(record: dict[str, Any], key: str, name: str) -> Any:
    if key not in record:
        raise InputError(name, f"has no field {key[:60]!r}, only {', '.join(record)[:200] or 'none'}", "name the field")
    return record[key]
