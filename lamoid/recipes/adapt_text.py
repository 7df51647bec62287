"""The texts of a domain, parted into some to train on and some that are only measured on."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lamoid.contained import read_whole
from lamoid.data.hub_sets import is_hub_name
from lamoid.data.prepare import PART
from lamoid.data.sources import Document, cut_place, read_documents
from lamoid.errors import InputError
from lamoid.recipes.measuring import Paths, as_paths
from lamoid.strict_json import parse_json
from lamoid.weights.durable import durable_folder

ASKED = "asked.json"
_MOST_BYTES = 1 << 24
FEW = 20
"""With fewer documents than this the end of each is held out: whole ones would be too uneven a share."""


@dataclass(frozen=True)
class Domain:
    """The folder of the two parts."""

    folder: Path

    @property
    def train(self) -> Path:
        """What is trained on."""
        return self.folder / "train.jsonl"

    @property
    def held_out(self) -> Path:
        """What is measured on."""
        return self.folder / "held-out.jsonl"


def part_domain(
    paths: Paths, out: Path, *, share: float, separator: str | None = None, field: str = "text", culprit: str
) -> Domain:
    """Write the documents of ``paths`` into the folder ``out``: about ``share`` of them, held out by their hashes.

    Equal texts fall on one side, whatever their order. A folder that is there already is taken as it is, if it was
    made of the same. Raise ``InputError`` naming ``culprit`` if a side is empty, and what differs if it was not.
    """
    asked = {culprit: _places(as_paths(paths)), "hold_out": share, "separator": separator, "field": field}
    if out.exists():
        _check_same(out, asked)
        return Domain(out)

    def read(part: int | None = None) -> Iterator[Document]:
        return read_documents(as_paths(paths), separator=separator, field=field, part=part)

    count = sum(document.ends for document in read(PART))
    sizes = {"train": 0, "held-out": 0}
    with durable_folder(out) as draft, draft.open("train.jsonl") as train, draft.open("held-out.jsonl") as held_out:
        files = {"train": train, "held-out": held_out}
        for document in read():
            for side, text in _sides(document.text, share, in_parts=count < FEW):
                files[side].write(msgspec.json.encode({"text": text}) + b"\n")
                sizes[side] += len(text)
        if not all(sizes.values()):
            empty = next(side for side, size in sizes.items() if not size)
            problem = f"of {count} documents leaves none for the part {empty!r}"
            raise InputError(culprit, problem, "give more text, or another --hold-out")
        draft.write(ASKED, msgspec.json.encode(asked))
    return Domain(out)


def _places(paths: Sequence[str | Path]) -> list[str]:
    """Give the paths in full, wherever they are looked at from."""
    return [path if isinstance(path, str) and is_hub_name(path) else str(Path(path).resolve()) for path in paths]


def _check_same(out: Path, asked: dict[str, Any]) -> None:
    """Refuse parts that were made of something else."""
    made = parse_json(read_whole(out / ASKED, limit=_MOST_BYTES), file=out / ASKED)
    keys = [key for key, value in asked.items() if not isinstance(made, dict) or made.get(key) != value]
    if keys:
        problem = f"was made with other settings: {', '.join(keys)}"
        raise InputError(out, problem, "set them back to go on, or choose another --out")


def _sides(text: str, share: float, *, in_parts: bool) -> Sequence[tuple[str, str]]:
    if not in_parts:
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        return [("held-out" if number < share * 2**64 else "train", text)]
    cut = cut_place(text, max(1, round(len(text) * (1 - share))))
    return [(side, part) for side, part in (("train", text[:cut]), ("held-out", text[cut:])) if part.strip()]
