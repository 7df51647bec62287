"""The objective of answers that are pieces of a text: where they begin, and where they end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lamoid.assembly.bounds import MOST_CONTEXT, whole
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.task_heads import SpanSpec
from lamoid.data.questions import Offsets, Question, read_questions
from lamoid.data.row_batches import Numbers, TextRows
from lamoid.data.task_rows import by_length
from lamoid.errors import InputError
from lamoid.evaluation.answers import exact_match, overlap
from lamoid.recipes.row_data import RowData
from lamoid.recipes.row_heads import RowHead
from lamoid.recipes.row_objective import HeadObjective
from lamoid.recipes.rows_table import RowsTable
from lamoid.training.supervised import span_logits

_MARK = -1


@dataclass(frozen=True)
class _Window:
    """What is read of a question and a part of its text: the text's tokens stand from ``first`` on, at ``places``."""

    question: int
    ids: Numbers
    types: Numbers
    first: int
    places: list[tuple[int, int]]

    def target(self, begin: int, end: int) -> tuple[int, int]:
        """Give the first and last token of the characters [begin, end); the first of the row if not all are here."""
        inside = [at for at, (start, stop) in enumerate(self.places) if start < end and stop > begin]
        if not inside or self.places[inside[0]][0] > begin or self.places[inside[-1]][1] < end:
            return 0, 0
        return self.first + inside[0], self.first + inside[-1]


class SpansTable(HeadObjective, frozen=True, forbid_unknown_fields=True, tag="spans", kw_only=True):
    """Say which piece of a text answers a question, of files in SQuAD's form.

    A text that is too long is read in windows that have ``overlap`` tokens in common; a window without the answer has
    it at its first token, as a question without one. ``offsets`` "nearest" mends answers that stand elsewhere. An
    answer that is found has at most ``longest`` tokens.
    """

    overlap: int = 128
    longest: int = 30
    offsets: Offsets = "refuse"

    def __post_init__(self) -> None:
        whole("objective.overlap", self.overlap, 0, MOST_CONTEXT)
        whole("objective.longest", self.longest, 1, MOST_CONTEXT)

    @property
    def kind_of_head(self) -> RowHead:
        return SpanSpec

    def read(self, paths: tuple[str, ...], table: RowsTable) -> tuple[list[Question], list[str]]:
        return read_questions(paths, offsets=self.offsets)

    def said(self, entry: Question) -> str:
        return f"{entry.question}\n{entry.text}"

    def rows(self, entries: Sequence[Question], data: RowData, context: int) -> TextRows:
        windows = self._windows(entries, data, context)
        targets: list[tuple[int, int]] = []
        for window in windows:
            answers = entries[window.question].answers
            targets.append(window.target(answers[0][1], answers[0][1] + len(answers[0][0])) if answers else (0, 0))
        found = {window.question for window, target in zip(windows, targets, strict=True) if target != (0, 0)}
        missed = sum(bool(entry.answers) for entry in entries) - len(found)
        if not found and missed:
            problem = "and no other question has its answer whole in a window"
            raise InputError(entries[0].name, problem, "lengthen training.context, or objective.overlap")
        if missed:
            data.remark(f"{missed} of {len(entries)} answers are whole in no window of {context} tokens")
        ids, types = [window.ids for window in windows], [window.types for window in windows]
        return TextRows(self.name, ids, torch.tensor(targets), types)

    def _windows(self, entries: Sequence[Question], data: RowData, context: int) -> list[_Window]:
        tokenizer, windows = data.tokenizer, []
        cut = 0
        texts: dict[str, tuple[list[int], list[tuple[int, int]]]] = {}
        for index, entry in enumerate(entries):
            if entry.text not in texts:
                texts[entry.text] = tokenizer.encode_places(entry.text)
            ids, places = texts[entry.text]
            question = tokenizer.encode(entry.question)
            cut += len(question) > context // 2
            question = question[: context // 2]
            room = context - len(tokenizer.whole(question, [])[0])
            if room <= self.overlap:
                problem = f"leaves {room} tokens for the text, and objective.overlap is {self.overlap}"
                raise InputError("training.context", problem, "lengthen it, or shorten the overlap")
            for begin in range(0, max(1, len(ids) - self.overlap), room - self.overlap):
                part = ids[begin : begin + room]
                marked, _ = tokenizer.whole(question, [_MARK] * len(part))
                row, types = tokenizer.whole(question, part)
                first = marked.index(_MARK) if part else len(row)
                where = places[begin : begin + room]
                windows.append(_Window(index, np.asarray(row, np.int64), np.asarray(types, np.int64), first, where))
        if cut:
            data.remark(f"{cut} of {len(entries)} questions are longer than half the context, and were cut")
        return windows

    def scores(
        self, model: LanguageModel, entries: Sequence[Question], data: RowData, context: int, batch: int
    ) -> dict[str, float]:
        given = self.answers(model, entries, data, context, batch)
        wanted = [[said for said, _ in entry.answers] for entry in entries]
        pairs = list(zip(given, wanted, strict=True))
        exact = sum(exact_match(one, these) for one, these in pairs) / len(pairs)
        return {"exact_match": exact, "f1": sum(overlap(one, these) for one, these in pairs) / len(pairs)}

    def answers(
        self, model: LanguageModel, entries: Sequence[Question], data: RowData, context: int, batch: int
    ) -> list[str]:
        """Give the likeliest answer to each question over all its windows, "" for none where some have none."""
        windows = self._windows(entries, data, context)
        rows = TextRows(self.name, [w.ids for w in windows], torch.zeros(len(windows), 2), [w.types for w in windows])
        may_lack = any(not entry.answers for entry in entries)
        best: list[tuple[float, str]] = [(float("-inf"), "")] * len(entries)
        nothing = [float("inf")] * len(entries)
        for numbers, part in by_length(rows, batch):
            logits = span_logits(model, part)[1].float().cpu()
            for row, number in enumerate(numbers.tolist()):
                window = windows[number]
                at = window.question
                nothing[at] = min(nothing[at], float(logits[row, 0].sum()))
                score, begin, end = self._best(logits[row, window.first : window.first + len(window.places)])
                if score > best[at][0]:
                    best[at] = score, entries[at].text[window.places[begin][0] : window.places[end][1]]
        return ["" if may_lack and nothing[at] > score else said for at, (score, said) in enumerate(best)]

    def _best(self, logits: torch.Tensor) -> tuple[float, int, int]:
        """Give the best sum of a (T, 2) begin and end that is no earlier, and these."""
        if not len(logits):
            return float("-inf"), 0, 0
        sums = logits[:, :1] + logits[None, :, 1]
        allowed = torch.ones_like(sums, dtype=torch.bool).triu().tril(self.longest - 1)
        flat = int(sums.masked_fill(~allowed, float("-inf")).argmax())
        begin, end = divmod(flat, len(logits))
        return float(sums[begin, end]), begin, end
