"""Objectives of writing: a target for a source, and what the assistant says in conversations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lamoid.assembly.likelihood import IGNORED
from lamoid.assembly.model import check_writes
from lamoid.assembly.spec import ModelSpec
from lamoid.data.chats import Chat, read_chats
from lamoid.data.row_batches import Numbers, SourceRows, TokenRows, pack
from lamoid.data.rows import read_records
from lamoid.data.span_corruption import decoder_start
from lamoid.errors import InputError
from lamoid.recipes.row_data import RowData, cut_single
from lamoid.recipes.row_objective import RowObjective
from lamoid.recipes.rows_table import RowsTable
from lamoid.recipes.text_objective import check_reads_text
from lamoid.text.chat import ChatEncoder, EncodedChat, choose_template, find_template
from lamoid.text.chat_templates import BUILT_IN
from lamoid.text.chat_tokenizer import with_template
from lamoid.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Pair:
    """A text to read and one to write."""

    text: str
    target: str
    name: str


class SequenceTable(RowObjective, frozen=True, forbid_unknown_fields=True, tag="sequence", kw_only=True):
    """Write a target when a source is read, by an encoder-decoder, or by a decoder behind it and ``joint``.

    The loss is on the target. ``prefix`` stands before each source, as T5 has its tasks.
    """

    prefix: str = ""
    joint: str = "\n"

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model that cannot write."""
        check_writes(spec)
        if not spec.reads_source:
            check_reads_text(spec)

    def read(self, paths: tuple[str, ...], table: RowsTable) -> tuple[list[Pair], list[str]]:
        records = read_records(paths, (table.source, table.target))
        return [Pair(row.text(table.source), row.text(table.target), row.name) for row in records], []

    def said(self, entry: Pair) -> str:
        return f"{self.prefix}{entry.text}{self.joint}{entry.target}"

    def rows(self, entries: Sequence[Pair], data: RowData, context: int) -> SourceRows | TokenRows:
        sources = data.tokenizer.encode_many([self.prefix + entry.text for entry in entries])
        targets = data.tokenizer.encode_many([entry.target for entry in entries])
        end = [] if data.tokenizer.end is None else [data.tokenizer.end]
        for entry, ids in zip(entries, targets, strict=True):
            if not ids:
                raise InputError(entry.name, "has a target without a token", "leave the row out")
        if data.reads_source:
            return self._read_apart(sources, targets, end, data, context)
        return self._read_behind(sources, targets, end, data, context)

    def _read_apart(
        self, sources: list[list[int]], targets: list[list[int]], end: list[int], data: RowData, context: int
    ) -> SourceRows:
        start = decoder_start(data.tokenizer)
        read = [cut_single(ids, data.tokenizer, context) for ids in sources]
        wanted = [[*ids, *end][:context] for ids in targets]
        long = sum(len(data.tokenizer.whole(ids)[0]) > context for ids in sources)
        _say_cut(data, long + sum(len(ids) + len(end) > context for ids in targets), 2 * len(sources), context)
        written = [[start, *ids[:-1]] for ids in wanted]
        return SourceRows(self.name, *([_array(ids) for ids in rows] for rows in (read, written, wanted)))

    def _read_behind(
        self, sources: list[list[int]], targets: list[list[int]], end: list[int], data: RowData, context: int
    ) -> TokenRows:
        before = [*data.tokenizer.around[0]]
        if not before and data.tokenizer.start is not None:
            before = [data.tokenizer.start]
        between = data.tokenizer.encode(self.joint) if self.joint else []
        room = context + 1 - len(before) - len(between)
        if room < 2:
            problem = f"is {context}, of which objective.joint and a start take {len(before) + len(between)}"
            raise InputError("training.context", problem, "lengthen it, or shorten the joint")
        ids: list[Numbers] = []
        wanted: list[Numbers] = []
        cut = 0
        for source, target in zip(sources, targets, strict=True):
            said = [*target, *end]
            kept = said[: room - min(len(source), room // 2)]
            asked = [*before, *source[: room - len(kept)], *between]
            cut += len(kept) < len(said) or len(asked) < len(before) + len(source) + len(between)
            whole = [*asked, *kept]
            ids.append(_array(whole[:-1]))
            wanted.append(_array([IGNORED] * (len(asked) - 1) + kept))
        _say_cut(data, cut, len(sources), context)
        return TokenRows(self.name, ids, wanted)


class ChatTable(RowObjective, frozen=True, forbid_unknown_fields=True, tag="chat", kw_only=True):
    """Say what the assistant says in conversations, or with ``answers_only`` false all that is in them.

    ``template`` is one of the built-in ones, or "" for the tokenizer's own (for a new tokenizer: "chatml"). A
    conversation of more than the context is ``long``: "cut" at the end, "drop", or "refuse". With ``pack``, several
    stand in a row, and none sees another. ``today`` is the date for templates that ask for it.
    """

    template: str = ""
    answers_only: bool = True
    long: Literal["cut", "drop", "refuse"] = "cut"
    pack: bool = True
    today: str = ""

    def __post_init__(self) -> None:
        if self.template and self.template not in BUILT_IN:
            problem, cure = f"is {self.template[:60]!r}", f"choose one of {', '.join(BUILT_IN)}, or leave it out"
            raise InputError("objective.template", problem, cure)

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model that cannot write, or that needs a source."""
        check_writes(spec)
        if spec.reads_source:
            problem = "reads a source beside the text, and a conversation has none"
            raise InputError("model", problem, 'take a decoder, or the objective "sequence"')
        check_reads_text(spec)

    def read(self, paths: tuple[str, ...], table: RowsTable) -> tuple[list[Chat], list[str]]:
        return read_chats(paths), []

    def fitted(self, tokenizer: Tokenizer, *, is_new: bool) -> Tokenizer:
        name = self.template or ("chatml" if is_new and find_template(tokenizer) is None else "")
        return with_template(tokenizer, name, may_grow=is_new) if name else tokenizer

    def rows(self, entries: Sequence[Chat], data: RowData, context: int) -> TokenRows:
        chats: list[tuple[Numbers, Numbers]] = []
        long = unanswered = 0
        with ChatEncoder(data.tokenizer, choose_template(data.tokenizer, self.template), today=self.today) as encoder:
            for entry in entries:
                chat = encoder.encode(entry.messages, entry.name, entry.more)
                if len(chat.ids) > context + 1:
                    long += 1
                    if self.long == "refuse":
                        problem = f"has {len(chat.ids)} tokens, the context is {context}"
                        raise InputError(entry.name, problem, 'shorten it, or say objective.long = "cut" or "drop"')
                    if self.long == "drop":
                        continue
                ids, targets = self._targets(chat, context)
                if (targets == IGNORED).all():
                    unanswered += 1
                    continue
                chats.append((ids, targets))
        self._say(data, len(entries), long, unanswered, context)
        if not chats:
            raise InputError(entries[0].name, "no conversation has an answer to learn", "lengthen training.context")
        return self._packed(chats, context) if self.pack else TokenRows(self.name, *map(list, zip(*chats, strict=True)))

    def _targets(self, chat: EncodedChat, context: int) -> tuple[Numbers, Numbers]:
        """Give what is read, and in each place the next token, where it is one to be learnt."""
        ids, is_learnt = _array(chat.ids[: context + 1]), np.asarray(chat.is_answer[: context + 1])
        targets = np.where(is_learnt[1:], ids[1:], IGNORED) if self.answers_only else ids[1:]
        return ids[:-1], targets

    def _packed(self, chats: Sequence[tuple[Numbers, Numbers]], context: int) -> TokenRows:
        ids: list[Numbers] = []
        targets: list[Numbers] = []
        segments: list[Numbers] = []
        for row in pack([len(said) for said, _ in chats], context):
            ids.append(np.concatenate([chats[index][0] for index in row]))
            targets.append(np.concatenate([chats[index][1] for index in row]))
            lengths = [len(chats[index][0]) for index in row]
            segments.append(np.repeat(np.arange(1, len(row) + 1), lengths))
        return TokenRows(self.name, ids, targets, segments)

    def _say(self, data: RowData, chats: int, long: int, unanswered: int, context: int) -> None:
        if long:
            what = "left out" if self.long == "drop" else "cut"
            data.remark(f"{long} of {chats} conversations are longer than {context} tokens, and were {what}")
        if unanswered:
            data.remark(
                f"{unanswered} of {chats} conversations have no answer within {context} tokens, and were left out"
            )


def _say_cut(data: RowData, cut: int, texts: int, context: int) -> None:
    if cut:
        data.remark(f"{cut} of {texts} texts are longer than {context} tokens allow, and were cut")


def _array(ids: Sequence[int]) -> Numbers:
    return np.asarray(ids, np.int64)
