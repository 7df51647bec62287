"""The objective of tags: one for each word, learnt at the word's first token."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lamoid.assembly.likelihood import IGNORED
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import HeadSpec
from lamoid.assembly.task_heads import TagsSpec
from lamoid.data.row_batches import Numbers, TokenRows
from lamoid.data.tagged import Tagged, read_tagged
from lamoid.data.task_rows import by_length
from lamoid.errors import InputError
from lamoid.evaluation.tag_spans import tag_score
from lamoid.recipes.row_data import RowData
from lamoid.recipes.row_heads import RowHead, held_names
from lamoid.recipes.row_objective import HeadObjective, known_names
from lamoid.recipes.rows_table import RowsTable
from lamoid.training.supervised import answer


class _Places(NamedTuple):
    """The ids of a sentence, and the token of each of its words that has one of its own within the context."""

    ids: Numbers
    words: list[tuple[int, int]]


class TagsTable(HeadObjective, frozen=True, forbid_unknown_fields=True, tag="tags", kw_only=True):
    """Say the tag of each word, of CoNLL files or rows of words and tags; ``joint`` stands between two words.

    The sentence is read as the text that it is; a word's tag is learnt at its first token, the others are not scored.
    """

    joint: str = " "

    @property
    def kind_of_head(self) -> RowHead:
        return TagsSpec

    def read(self, paths: tuple[str, ...], table: RowsTable) -> tuple[list[Tagged], list[str]]:
        return read_tagged(paths, words=table.words, tags=table.tags), []

    def names(self, train: Sequence[Tagged], validation: Sequence[Tagged], held: HeadSpec | None) -> tuple[str, ...]:
        found, measured = ([(tag, row.name) for row in side for tag in row.tags] for side in (train, validation))
        return known_names(found, measured, held_names(held), least=2)

    def rows(self, entries: Sequence[Tagged], data: RowData, context: int) -> TokenRows:
        number = {name: index for index, name in enumerate(data.names)}
        ids: list[Numbers] = []
        targets: list[Numbers] = []
        lost = 0
        for entry in entries:
            found = self._places(entry, data, context)
            lost += len(entry.words) - len(found.words)
            wanted = np.full(len(found.ids), IGNORED, np.int64)
            for word, token in found.words:
                wanted[token] = number[entry.tags[word]]
            ids.append(found.ids)
            targets.append(wanted)
        if lost:
            words = sum(len(entry.words) for entry in entries)
            data.remark(f"{lost} of {words} words have no token of their own within {context} tokens: no tag is learnt")
        if all((row == IGNORED).all() for row in targets):
            raise InputError(entries[0].name, "no word of any row has a token of its own", "use another tokenizer")
        return TokenRows(self.name, ids, targets)

    def _places(self, entry: Tagged, data: RowData, context: int) -> _Places:
        before, behind = data.tokenizer.around
        text, begins = "", []
        for word in entry.words:
            begins.append(len(text))
            text += word + self.joint
        ids, places = data.tokenizer.encode_places(text[: len(text) - len(self.joint)])
        room = max(0, context - len(before) - len(behind))
        ids, places = ids[:room], places[:room]
        words: list[tuple[int, int]] = []
        token = 0
        for word, begin in enumerate(begins):
            end = begin + len(entry.words[word])
            while token < len(places) and places[token][1] <= begin:
                token += 1
            if token < len(places) and places[token][0] < end:
                words.append((word, len(before) + token))
                token += 1  # a token that goes on into the next word is this one's alone
        return _Places(np.asarray(data.tokenizer.whole(ids)[0], np.int64), words)

    def scores(
        self, model: LanguageModel, entries: Sequence[Tagged], data: RowData, context: int, batch: int
    ) -> dict[str, float]:
        given: list[list[str]] = [[] for _ in entries]
        outside = "O" if "O" in data.names else data.names[0]
        for places, part in by_length(self.rows(entries, data, context), batch):
            best = answer(model, part)[1].argmax(-1).cpu()
            for row, place in enumerate(places.tolist()):
                found = dict(self._places(entries[place], data, context).words)
                tags = [
                    best[row, found[word]].item() if word in found else None for word in range(len(entries[place].tags))
                ]
                given[place] = [outside if tag is None else data.names[int(tag)] for tag in tags]
        wanted = [entry.tags for entry in entries]
        score = tag_score(wanted, given)
        pairs = [
            one == other
            for ours, theirs in zip(given, wanted, strict=True)
            for one, other in zip(ours, theirs, strict=True)
        ]
        figures = {"precision": score.precision, "recall": score.recall, "f1": score.f1}
        return {**figures, "accuracy": sum(pairs) / len(pairs)}
