"""Objectives with one answer for each text, or pair of texts: a class, any of several labels, or a number."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import HeadSpec
from lamoid.assembly.task_heads import ClassesSpec, LabelsSpec, RegressionSpec
from lamoid.data.files import find_files
from lamoid.data.labelled import read_labelled
from lamoid.data.row_batches import TextRows
from lamoid.data.rows import Record, read_records
from lamoid.data.task_rows import Keep, by_length
from lamoid.errors import InputError
from lamoid.evaluation.regression import mean_squared_error, pearson
from lamoid.recipes.row_data import RowData, cut_pair, cut_single
from lamoid.recipes.row_heads import RowHead, held_names
from lamoid.recipes.row_objective import HeadObjective, known_names
from lamoid.recipes.rows_table import RowsTable
from lamoid.training.supervised import answer

LARGEST = 1e15


@dataclass(frozen=True)
class Answered:
    """A text, or two, and what is said about it."""

    text: str
    second: str | None
    answer: Any
    name: str


class TextAnswerTable(HeadObjective, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What these have in common: of a text that is too long, the ``keep`` is read."""

    keep: Keep = "start"

    def read(self, paths: tuple[str, ...], table: RowsTable) -> tuple[list[Answered], list[str]]:
        fields = (table.text, table.label, *([table.second] if table.second else []))
        return [self._entry(record, table) for record in read_records(paths, fields)], []

    def _entry(self, record: Record, table: RowsTable) -> Answered:
        second = record.text(table.second) if table.second else None
        return Answered(record.text(table.text), second, self.answer_of(record, table), record.name)

    @abstractmethod
    def answer_of(self, record: Record, table: RowsTable) -> Any:
        """Read what a row says about its text."""

    @abstractmethod
    def targets(self, entries: Sequence[Answered], names: tuple[str, ...]) -> Tensor:
        """Give the targets (N,) or (N, count)."""

    def said(self, entry: Answered) -> str:
        return f"{entry.text}\n{entry.second}" if entry.second else entry.text

    def rows(self, entries: Sequence[Answered], data: RowData, context: int) -> TextRows:
        tokenizer = data.tokenizer
        added = len(tokenizer.whole([], [] if any(entry.second for entry in entries) else None)[0])
        if context <= added:
            problem = f"is {context}, and {added} control tokens stand around the text"
            raise InputError("training.context", problem, "lengthen it")
        first = tokenizer.encode_many([entry.text for entry in entries])
        for entry, ids in zip(entries, first, strict=True):
            if not ids:
                raise InputError(entry.name, "has a text without a token", "leave the row out")
        if all(entry.second is None for entry in entries):
            whole = [cut_single(ids, tokenizer, context, keep_end=self.keep == "end") for ids in first]
            types, full = None, [tokenizer.whole(ids)[0] for ids in first]
        else:
            second = tokenizer.encode_many([entry.second or "" for entry in entries])
            pairs = [cut_pair(one, other, tokenizer, context) for one, other in zip(first, second, strict=True)]
            full = [tokenizer.whole(one, other)[0] for one, other in zip(first, second, strict=True)]
            whole, types = [ids for ids, _ in pairs], [np.asarray(kinds, np.int64) for _, kinds in pairs]
        count = sum(len(ids) > context for ids in full)
        if count:
            data.remark(f"{count} of {len(full)} texts are longer than {context} tokens, and were cut")
        return TextRows(
            self.name, [np.asarray(ids, np.int64) for ids in whole], self.targets(entries, data.names), types
        )

    def answers(
        self, model: LanguageModel, entries: Sequence[Answered], data: RowData, context: int, batch: int
    ) -> tuple[Tensor, Tensor]:
        """Give the logits (N, count) and targets of all entries, in their order."""
        rows = self.rows(entries, data, context)
        places, found = zip(
            *((places, answer(model, part)[1].float().cpu()) for places, part in by_length(rows, batch)), strict=True
        )
        return torch.cat(found)[torch.argsort(torch.cat(places))], rows.targets


class ClassesTable(TextAnswerTable, frozen=True, forbid_unknown_fields=True, tag="classes", kw_only=True):
    """Say which one class a text is of; ``label`` is a text, a whole number or a truth value."""

    @property
    def kind_of_head(self) -> RowHead:
        return ClassesSpec

    def read(self, paths: tuple[str, ...], table: RowsTable) -> tuple[list[Answered], list[str]]:
        if table.second:
            return super().read(paths, table)
        # A folder of theirs is a folder of texts for each label, not one of files.
        places = [path for one in paths for path in ([one] if Path(one).is_dir() else dict(find_files([one])))]
        found = [entry for path in places for entry in read_labelled(path, text=table.text, label=table.label)]
        return [Answered(entry.text, None, entry.label, entry.name) for entry in found], []

    def answer_of(self, record: Record, table: RowsTable) -> str:
        value = record.get(table.label)
        if not isinstance(value, str | int) or not str(value).strip():
            raise InputError(
                f"{record.name}: {table.label}", f"is {str(value)[:60]!r}", "write a text or a whole number"
            )
        return str(value)

    def names(
        self, train: Sequence[Answered], validation: Sequence[Answered], held: HeadSpec | None
    ) -> tuple[str, ...]:
        found, measured = ([(entry.answer, entry.name) for entry in side] for side in (train, validation))
        return known_names(found, measured, held_names(held), least=2)

    def targets(self, entries: Sequence[Answered], names: tuple[str, ...]) -> Tensor:
        return torch.tensor([names.index(entry.answer) for entry in entries])

    def scores(
        self, model: LanguageModel, entries: Sequence[Answered], data: RowData, context: int, batch: int
    ) -> dict[str, float]:
        logits, targets = self.answers(model, entries, data, context, batch)
        most = int(targets.bincount().max()) / len(targets)
        return {"accuracy": (logits.argmax(-1) == targets).double().mean().item(), "most_frequent": most}


class LabelsTable(TextAnswerTable, frozen=True, forbid_unknown_fields=True, tag="labels", kw_only=True):
    """Say which labels a text has, any number of them; ``label`` is a list of texts, or a text in parts."""

    @property
    def kind_of_head(self) -> RowHead:
        return LabelsSpec

    def answer_of(self, record: Record, table: RowsTable) -> list[str]:
        found = record.words(table.label, table.between or ",")
        if len(set(found)) != len(found):
            raise InputError(f"{record.name}: {table.label}", "names a label twice", "name each once")
        return sorted(found)

    def names(
        self, train: Sequence[Answered], validation: Sequence[Answered], held: HeadSpec | None
    ) -> tuple[str, ...]:
        found, measured = ([(one, row.name) for row in side for one in row.answer] for side in (train, validation))
        return known_names(found, measured, held_names(held), least=1)

    def targets(self, entries: Sequence[Answered], names: tuple[str, ...]) -> Tensor:
        table = torch.zeros(len(entries), len(names))
        for row, entry in zip(table, entries, strict=True):
            row[[names.index(one) for one in entry.answer]] = 1.0
        return table

    def scores(
        self, model: LanguageModel, entries: Sequence[Answered], data: RowData, context: int, batch: int
    ) -> dict[str, float]:
        logits, targets = self.answers(model, entries, data, context, batch)
        given, wanted = logits > 0, targets > 0.5
        both, either = int((given & wanted).sum()), int(given.sum()) + int(wanted.sum())
        exact = (given == wanted).all(-1).double().mean().item()
        return {"micro_f1": 2 * both / either if either else 0.0, "exact_match": exact}


class RegressionTable(TextAnswerTable, frozen=True, forbid_unknown_fields=True, tag="regression", kw_only=True):
    """Say a number about a text."""

    @property
    def kind_of_head(self) -> RowHead:
        return RegressionSpec

    def answer_of(self, record: Record, table: RowsTable) -> float:
        number = record.number(table.label)
        if abs(number) > LARGEST:
            problem = f"is {number:g}, the limit is {LARGEST:g}: its square is no number of 32 bits"
            raise InputError(f"{record.name}: {table.label}", problem, "scale the numbers down")
        return number

    def targets(self, entries: Sequence[Answered], names: tuple[str, ...]) -> Tensor:
        return torch.tensor([[entry.answer] for entry in entries], dtype=torch.float32)

    def scores(
        self, model: LanguageModel, entries: Sequence[Answered], data: RowData, context: int, batch: int
    ) -> dict[str, float]:
        numbers, targets = self.answers(model, entries, data, context, batch)
        error = mean_squared_error(targets.numpy(), numbers.numpy())
        return {"mean_squared_error": error, "pearson": pearson(targets.numpy(), numbers.numpy())}
