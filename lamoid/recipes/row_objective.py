"""What all objectives about rows have in common: they read files, make rows of tokens, and need a head."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import msgspec
import torch

from lamoid.assembly.families.family import Family
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import HeadSpec, ModelSpec
from lamoid.data.row_batches import RowBatch
from lamoid.data.task_rows import Rows, TaskLoader, by_length
from lamoid.errors import InputError
from lamoid.recipes.feed import Feed
from lamoid.recipes.row_data import RowData
from lamoid.recipes.row_heads import NAMED, RowHead, held_head, with_head
from lamoid.recipes.rows_table import RowsTable
from lamoid.recipes.text_objective import check_reads_text
from lamoid.text.tokenizer import Tokenizer
from lamoid.training.objectives import Objective
from lamoid.training.supervised import SUPERVISED

Head = Literal["keep", "new"]


class RowObjective(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    """An objective that is learnt from rows of files, ``[data] kind = "rows"``."""

    @property
    def name(self) -> str:
        """The word for it in a recipe."""
        return str(self.__struct_config__.tag)

    def objective(self) -> Objective:
        """Give the terms that are minimised."""
        return SUPERVISED[self.name]

    @abstractmethod
    def check(self, spec: ModelSpec) -> None:
        """Raise ``InputError`` if no model of this trunk can learn it, whatever its head."""

    @abstractmethod
    def read(self, paths: tuple[str, ...], table: RowsTable) -> tuple[list[Any], list[str]]:
        """Read files, with remarks; ``InputError`` names file and line."""

    @abstractmethod
    def rows(self, entries: Sequence[Any], data: RowData, context: int) -> Rows[RowBatch]:
        """Make rows of at most ``context`` tokens of what was read."""

    def said(self, entry: Any) -> str:
        """Give all that a tokenizer is learned from."""
        return entry.text

    def fitted(self, tokenizer: Tokenizer, *, is_new: bool) -> Tokenizer:
        """Give the tokenizer with what it lacks for this; only one for a new model may get more tokens."""
        return tokenizer

    def names(self, train: Sequence[Any], validation: Sequence[Any], held: HeadSpec | None) -> tuple[str, ...]:
        """Give the names of the answers: those of the head that the model has, or else those in ``train``."""
        return ()

    def shaped(self, spec: ModelSpec, data: RowData, family: Family | None) -> ModelSpec:
        """Give the model's spec with the head that is needed."""
        return spec

    def held(self, spec: ModelSpec) -> HeadSpec | None:
        """Give the model's head if it is to be trained on."""
        return None

    def needs_new_head(self, before: ModelSpec, after: ModelSpec) -> bool:
        """Is a head to be drawn for a trained model, whose spec was ``before``?"""
        return False

    def feed(self, data: RowData, context: int, *, batch: int, measured: int, seed: int) -> Feed:
        """Make rows of all that was read: ``batch`` of them at once to train, ``measured`` at once to measure."""
        train = self.rows(data.train, data, context)
        kept = None if data.validation is None else self.rows(data.validation, data, context)

        def once(rows: Rows[RowBatch]) -> Any:
            return (example for _, example in by_length(rows, measured))

        return Feed(
            open=lambda position: TaskLoader(train, batch=batch, seed=seed, position=position),
            validation=None if kept is None else partial(once, kept),
            sample=partial(once, train if kept is None else kept),
        )

    def measure(self, model: LanguageModel, data: RowData, context: int, batch: int) -> dict[str, float]:
        """Give what people measure of such answers, on the validation rows; nothing without them."""
        if data.validation is None:
            return {}
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                return self.scores(model, data.validation, data, context, batch)
        finally:
            model.train(was_training)

    def scores(
        self, model: LanguageModel, entries: Sequence[Any], data: RowData, context: int, batch: int
    ) -> dict[str, float]:
        """Give the figures of a model that is asked about ``entries``."""
        return {}


class HeadObjective(RowObjective, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One that is answered by a head of its own; a model's that fits is kept unless ``head`` is "new"."""

    head: Head = "keep"

    @property
    @abstractmethod
    def kind_of_head(self) -> RowHead:
        """Which head it needs."""

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model that reads what such rows have not."""
        if spec.reads_source:
            problem = "reads a source beside the text, and a row about a text has none"
            raise InputError("model", problem, 'take an encoder or a decoder, or the objective "sequence"')
        check_reads_text(spec)

    def needs_new_head(self, before: ModelSpec, after: ModelSpec) -> bool:
        return self.head == "new" or before != after

    def held(self, spec: ModelSpec) -> HeadSpec | None:
        return held_head(spec, self.kind_of_head) if self.head == "keep" else None

    def shaped(self, spec: ModelSpec, data: RowData, family: Family | None) -> ModelSpec:
        held = self.held(spec)
        if held is None or (isinstance(held, NAMED) and held.count != len(data.names)):
            return with_head(spec, self.kind_of_head, data.names, family)
        if not isinstance(held, NAMED) or not held.names:
            return spec
        return msgspec.structs.replace(
            spec, heads={name: msgspec.structs.replace(held, names=data.names) for name in spec.heads}
        )


def known_names(
    found: Sequence[tuple[str, str]], measured: Sequence[tuple[str, str]], held: tuple[str, ...], *, least: int
) -> tuple[str, ...]:
    """Give the names of a head: ``held`` ones, or those in ``found``, pairs of a name and where it stands.

    Raise ``InputError`` for a name that a held head does not know, for one in ``measured`` that ``found`` lacks, and
    for less than ``least`` of them.
    """
    names = held or tuple(sorted({name for name, _ in found}))
    if len(names) < least:
        where = found[0][1] if found else "data.train"
        raise InputError(where, f"all rows have the same {names[:1]}", f"give rows with {least} or more different ones")
    if held and all(name.startswith("LABEL_") for name in held):
        numbers = {str(number) for number in range(len(held))}
        if {name for name, _ in [*found, *measured]} <= numbers:
            return tuple(str(number) for number in range(len(held)))
    known = set(names)
    for name, where in [*found, *measured]:
        if name not in known:
            whose = (
                f"the model's head, which knows {', '.join(held)[:200]}, lacks" if held else "no row to train on has"
            )
            cure = 'mend it, or say objective.head = "new"' if held else "mend it, or train on it too"
            raise InputError(where, f"has {name[:60]!r}, which {whose}", cure)
    return names
