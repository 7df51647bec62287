"""Data sets of Hugging Face by name, and folders that ``datasets`` made, read as a stream; no code of theirs is run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamoid.errors import InputError

PREFIX = "hf:"
_CURE = "write hf:OWNER/NAME, hf:OWNER/NAME/CONFIG or hf:FOLDER, each with :SPLIT behind it or without"
_SAVED = ("dataset_dict.json", "state.json")  # what datasets' save_to_disk leaves
_PART = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class HubName:
    """What ``hf:NAME[/CONFIG][:SPLIT]`` says; ``folder`` where NAME is a folder of this machine."""

    name: str
    config: str | None
    split: str
    folder: Path | None


def is_hub_name(source: object) -> bool:
    """Does it name a data set of Hugging Face, by its beginning?"""
    return isinstance(source, str) and source.startswith(PREFIX)


def anchored_hub_name(source: str, folder: Path) -> str:
    """Give the name with its folder, if there is one of that name below ``folder``, made absolute; others as given."""
    body = source.removeprefix(PREFIX)
    name, _, split = body.rpartition(":")
    if body and (folder / body).is_dir():
        return f"{PREFIX}{(folder / body).resolve()}"
    return f"{PREFIX}{(folder / name).resolve()}:{split}" if name and (folder / name).is_dir() else source


def parse_hub_name(source: str) -> HubName:
    """Take a name apart; the split is ``train`` where none is said. A folder that exists goes before the hub."""
    body = source.removeprefix(PREFIX)
    name, _, split = (body, "", "") if Path(body).is_dir() else body.rpartition(":")
    if not name:
        name, split = body, ""
    if not name or (split and not _PART.fullmatch(split)):
        raise InputError(source, "names no data set", _CURE)
    place = Path(name)
    if place.is_dir():
        return HubName(name, None, split or "train", place)
    if place.parent.is_dir() and place.parent != Path():
        return HubName(str(place.parent), place.name, split or "train", place.parent)
    parts = name.split("/")
    if len(parts) > 3 or not all(map(_PART.fullmatch, parts)):
        raise InputError(source, f"{name[:200]!r} is neither a folder nor a name of the hub", _CURE)
    return HubName("/".join(parts[:2]), parts[2] if len(parts) == 3 else None, split or "train", None)


def hub_texts(source: str, field: str) -> Iterator[tuple[int, str]]:
    """Give the texts of one field of a data set's split, each with its number from 1.

    Needs ``datasets``. Raise ``InputError`` for a set, configuration, split or field that is not there, and for a row
    without text.
    """
    for number, row in enumerate(_guarded(source, _open(source, field)), 1):
        text = row.get(field)
        if not isinstance(text, str):
            there = f"but {str(text)[:80]!r}" if field in row else f"only {', '.join(row)[:200]}"
            raise InputError(
                f"{source}: row {number}", f"has no text in the field {field!r}, {there}", "name the field"
            )
        yield number, text


def hub_identity(source: str) -> str:
    """Say which data this is, as exactly as ``datasets`` can tell: its fingerprint, or the hash of its revision."""
    datasets, asked = _library(source), parse_hub_name(source)
    if asked.folder is not None and _is_saved(asked.folder):
        return f"{source} (fingerprint {_loaded(source)._fingerprint})"
    builder = next(_guarded(source, _once(lambda: datasets.load_dataset_builder(asked.name, asked.config))))
    return f"{source} (revision {builder.hash}, configuration {builder.config.name})"


def _library(source: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            source, "needs datasets, which is not installed", "install it: pip install 'lamoid[data]'"
        ) from error
    return datasets


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SAVED)


def _loaded(source: str) -> Any:
    """Open a folder that ``save_to_disk`` wrote; its tables are mapped, not read."""
    datasets, asked = _library(source), parse_hub_name(source)
    found = next(_guarded(source, _once(lambda: datasets.load_from_disk(asked.name))))
    if isinstance(found, datasets.DatasetDict):
        if asked.split not in found:
            problem = f"has no split {asked.split!r}, only {', '.join(map(str, found))[:200]}"
            raise InputError(source, problem, "name a split behind a colon")
        return found[asked.split]
    return found


def _open(source: str, field: str) -> Any:
    datasets, asked = _library(source), parse_hub_name(source)
    if asked.folder is not None and _is_saved(asked.folder):
        rows = _loaded(source)
    else:
        load = _once(lambda: datasets.load_dataset(asked.name, asked.config, split=asked.split, streaming=True))
        rows = next(_guarded(source, load))
    if rows.column_names is None:
        return rows
    if field not in rows.column_names:
        problem = f"has no field {field!r}, only {', '.join(rows.column_names)[:200]}"
        raise InputError(source, problem, "name the field that holds the text")
    return rows.select_columns([field])


def _once(make: Any) -> Iterator[Any]:
    yield make()


def _guarded(source: str, values: Any) -> Iterator[Any]:
    """Give the values; what the library raises for a set that cannot be had becomes an ``InputError``.

    It declares no error of its own for that: a set that is not there is an ``OSError``, a split or configuration a
    ``ValueError``, a set that comes as a program a ``RuntimeError``.
    """
    rows = iter(values)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except InputError:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise InputError(source, f"cannot be read: {reason}", "check name, configuration, split and net") from error
        yield row
