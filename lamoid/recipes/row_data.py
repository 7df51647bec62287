"""Rows to learn from, as they were read: with the tokenizer that will turn them into ids, and the names of answers."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from lamoid.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class RowData:
    """``train`` and ``validation`` are what the objective reads of files; ``names`` are those of its answers.

    ``reads_source`` says that the model has an encoder for a source. ``remarks`` gathers what was cut or left out.
    """

    tokenizer: Tokenizer
    train: list[Any]
    validation: list[Any] | None
    names: tuple[str, ...] = ()
    reads_source: bool = False
    remarks: list[str] = field(default_factory=list)

    def identity(self) -> dict[str, Any]:
        """Give hashes that name the rows, wherever their files lie, and the tokenizer, and the names in their order."""
        return {
            "tokenizer": self.tokenizer.fingerprint(),
            "train": _hash(self.train),
            "validation": None if self.validation is None else _hash(self.validation),
            "names": list(self.names),
        }

    def remark(self, text: str) -> None:
        """Note something once."""
        if text not in self.remarks:
            self.remarks.append(text)


def cut_single(ids: list[int], tokenizer: Tokenizer, context: int, *, keep_end: bool = False) -> list[int]:
    """Give what a model of ``context`` reads of one text, control tokens around it."""
    room = context - sum(map(len, tokenizer.around))
    cut = (ids[-room:] if keep_end else ids[:room]) if room > 0 else []
    return tokenizer.whole(cut)[0]


def cut_pair(first: list[int], second: list[int], tokenizer: Tokenizer, context: int) -> tuple[list[int], list[int]]:
    """Give what it reads of two, and the types: of the longer one tokens are left out at its end until both fit."""
    room = context - len(tokenizer.whole([], [])[0])
    over = len(first) + len(second) - room
    if over > 0:
        shorter = min(len(first), len(second), room // 2)
        first, second = (
            (first[: room - shorter], second[:shorter])
            if len(first) >= len(second)
            else (first[:shorter], second[: room - shorter])
        )
    return tokenizer.whole(first, second)


def _hash(rows: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        # Every kind of row says in ``name`` where it stands, which is not what it says.
        data = msgspec.json.encode({key: value for key, value in vars(row).items() if key != "name"})
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
